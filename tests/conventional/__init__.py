import pytest

# The contract is no test_*.py, so its asserts have to ask for pytest's explanations.
pytest.register_assert_rewrite(f"{__name__}.contract")
