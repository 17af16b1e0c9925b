"""The contract of a source of data, on the files that it names. Knows no source."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

import pyarrow as pa

from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources.base import Source
from lifelora.data.split import LeaveOneOut
from lifelora.errors import LifeloraError
from lifelora.kinds import SOURCES
from lifelora.testing.recipes import comes_back


@final
@dataclass(frozen=True)
class Case:
    """A source of a few users with three events or more. Its files are the case's own: a check writes into them and back."""

    config: Source


def a_recipe_can_name_it(case: Case) -> None:
    """By its kind; and what is dumped comes back. It has a name for reports."""
    comes_back(SOURCES, case.config)
    assert case.config.label.strip(), "label says nothing"


def the_tables_are_as_raw_tables_say(case: Case) -> None:
    """Columns and types; ids that are known on both sides, each once."""
    raw = case.config.read()
    log, catalogue, profiles = raw.interactions, raw.catalogue, raw.profiles
    assert len(log), "there are no interactions"
    rated = (("rating", pa.float32()),) if "rating" in log.column_names else ()
    for name, kind in (("user", pa.string()), ("item", pa.string()), *rated):
        assert log.schema.field(name).type == kind, f"interactions.{name} is {log.schema.field(name).type}, not {kind}"
        assert not log.column(name).null_count, f"interactions.{name} has nulls"
    assert "time" not in log.column_names or log.schema.field("time").type == pa.int64(), "interactions.time is not int64"
    assert "title" in catalogue.column_names, "the catalogue has no title"
    for table, key in ((catalogue, "item"), (profiles, "user")):
        kinds = (pa.string(), pa.list_(pa.string()))
        wrong = [f.name for f in table.schema if f.type not in kinds[: 1 + (f.name not in (key, "title", "description"))]]
        assert not wrong, f"in the table of {key}s {wrong[0]} is neither a text nor, as a field may be, a list of texts"
        ids = table.column(key).to_pylist()
        assert len(ids) == len(set(ids)), f"a {key} stands twice in its table"
        lacking = set(log.column(key).to_pylist()) - set(ids)
        assert not lacking, f"{len(lacking)} {key}s of the log are not in their table, {min(lacking)!r} among them"


def it_can_be_prepared(case: Case) -> None:
    """Into samples of all parts."""
    with tempfile.TemporaryDirectory() as folder:
        rules = Rules(min_history=1, split=LeaveOneOut())
        try:
            dataset = prepare(case.config.read(), rules, Path(folder) / "data", case.config.label)
        except LifeloraError as error:
            raise AssertionError(f"it cannot be prepared: {error}") from error
        assert len(dataset)


def reading_again_gives_the_same(case: Case) -> None:
    """What is drawn is drawn from a seed of its own."""
    first, again = case.config.read(), case.config.read()
    for name in ("interactions", "catalogue", "profiles"):
        assert getattr(first, name).equals(getattr(again, name)), f"{name} differ from one reading to the next"


def it_names_its_files(case: Case) -> None:
    """By their contents a stage is known: every one is a file, and a changed one is seen."""
    files = case.config.files()
    assert all(path.is_file() for path in files), f"files() names what is no file: {[str(p) for p in files if not p.is_file()]}"
    before = case.config.fingerprint()
    assert before == case.config.fingerprint(), "the fingerprint of the same files differs"
    for path in files:
        content = path.read_bytes()
        try:
            path.write_bytes(content + b"\n")
            assert case.config.fingerprint() != before, f"a changed {path.name} is not seen"
        finally:
            path.write_bytes(content)


def it_names_every_file_that_it_reads(case: Case) -> None:
    """As far as Python opens them: code apart, a file that is read and not named would change without being seen."""
    with opened() as paths:
        case.config.read()
    named = {path.resolve() for path in case.config.files()}
    code = (sys.prefix, sys.base_prefix, "/proc", "/sys", "/etc")
    unnamed = {
        path
        for path in map(Path, paths)
        if path.is_file()
        and path.resolve() not in named
        and path.suffix not in (".py", ".pyc")
        and not str(path.resolve()).startswith(code)
    }
    assert not unnamed, f"read() reads what files() does not name: {', '.join(map(str, sorted(unnamed)))}"


_watching: list[set[str] | None] = [None]


def _note(event: str, args: tuple[Any, ...]) -> None:
    if event == "open" and _watching[0] is not None and isinstance(args[0], str | os.PathLike):
        _watching[0].add(os.fspath(args[0]))


@cache
def _listen() -> None:
    sys.addaudithook(_note)  # it cannot be taken off again, so it ignores what comes unless a test watches


@contextmanager
def opened() -> Iterator[set[str]]:
    """The paths that Python opens meanwhile."""
    _listen()
    found = _watching[0] = set()
    try:
        yield found
    finally:
        _watching[0] = None


CHECKS: tuple[Callable[[Case], None], ...] = (
    a_recipe_can_name_it,
    the_tables_are_as_raw_tables_say,
    it_can_be_prepared,
    reading_again_gives_the_same,
    it_names_its_files,
    it_names_every_file_that_it_reads,
)
