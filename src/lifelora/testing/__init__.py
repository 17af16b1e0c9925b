"""The contracts of what a recipe can choose, for ours and for yours: plain functions that need no test runner.

    from lifelora.testing import couplings

    @pytest.mark.parametrize("check", couplings.CHECKS, ids=lambda check: check.__name__)
    def test_mine(check):
        check(couplings.Case(Mine.Config(rank=4)))

A check raises AssertionError, and says what is wrong, for a class that breaks it. ``models``, ``couplings``, ``selectors``,
``sources`` and ``vectors`` each have a ``Case`` and ``CHECKS``; ``check_all`` runs all of them. lifelora's own kinds pass the
same checks.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar

Case = TypeVar("Case")


def check_all(checks: Iterable[Callable[[Case], None]], case: Case) -> None:
    """Every check of one case; the first that is broken raises its AssertionError."""
    for check in checks:
        check(case)
