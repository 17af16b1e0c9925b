"""`pip install lifelora` brings what a module of it imports when it is read; what is imported later may be an extra."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def imports(tree: ast.Module) -> list[tuple[str, bool]]:
    """The package of every import, and whether it is imported as soon as the module is."""
    always = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        names = (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom) and node.module and not node.level
            else []
        )
        found += [(name.partition(".")[0], id(node) in always) for name in names]
    return found


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = named(project["dependencies"])
    extras = core.union(*(named(wanted) for extra, wanted in project["optional-dependencies"].items() if extra != "dev"))
    brings = packages_distributions()
    seen = set()
    for path in sorted((ROOT / "src").rglob("*.py")):
        for package, always in imports(ast.parse(path.read_text())):
            if package in sys.stdlib_module_names or package == "lifelora":
                continue
            seen.add(package)
            declared = core if always else extras
            distributions = {name.lower().replace("_", "-") for name in brings.get(package, [package])}
            assert distributions & declared, f"{path.relative_to(ROOT)} imports {package}, which is not among {sorted(declared)}"
    assert {"torch", "numpy", "scipy", "transformers"} <= seen
