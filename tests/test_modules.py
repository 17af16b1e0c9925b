"""Modules are short enough to be read at one sitting."""

from pathlib import Path
from statistics import median

SOURCES = sorted((Path(__file__).parents[1] / "src").rglob("*.py"))


def test_no_module_is_long():
    lines = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert len(lines) > 100
    assert {str(path): count for path, count in lines.items() if count > 300} == {}
    assert median(lines.values()) < 130
