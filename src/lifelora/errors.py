"""One family of errors. Each message says what came, where, what is allowed, and the mend."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")
"""What a terminal or a page may take as an order, or that cannot be written at all: control characters but tab and the end
of a line, marks that turn the direction of writing, halves of surrogate pairs."""


def harmless(text: str) -> str:
    """The text with ``\\u001b`` for an escape and the like: as JSON writes them, so that JSON stays JSON. Lines stay lines."""
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def on_one_line(text: str) -> str:
    """``harmless``, and ends of lines and tabs are escapes, too: for an id or a name inside a line."""
    return harmless(text).replace("\n", "\\n").replace("\t", "\\t")


class LifeloraError(Exception):
    """Anything lifelora refuses; ``except LifeloraError`` catches them all.

    Its text may hold what stood in a file: as a string it has nothing that a terminal would obey.
    """

    def __str__(self) -> str:
        return harmless(super().__str__())


class ConfigError(LifeloraError, ValueError):
    """A recipe, an option or an argument has a value that is not allowed."""


class ArtefactError(LifeloraError, RuntimeError):
    """A stage's files are missing, damaged, or made from something else."""


class BusyError(LifeloraError, RuntimeError):
    """Another process works in a folder that one process at a time may write in."""


class StoreError(LifeloraError, RuntimeError):
    """The database of an event store does not answer or refuses. What was asked may be asked again."""


class PeerError(LifeloraError, RuntimeError):
    """Another of the processes that work together has ended; ``told``: it has said itself why."""

    def __init__(self, message: str, *, told: bool = False) -> None:
        super().__init__(message)
        self.told = told


class DeadlineError(LifeloraError, TimeoutError):
    """A request could not be answered before its deadline, not even by the system that stands in for slow ones."""


class FullError(LifeloraError, RuntimeError):
    """As many requests wait for an answer as may wait."""


class ClosedError(LifeloraError, RuntimeError):
    """An engine was asked that has not started yet, or that has been closed."""


class ScopeError(LifeloraError, RuntimeError):
    """A personalised layer ran without a user in scope, or with another number of users than rows."""


class LeakError(LifeloraError, RuntimeError):
    """Something from the target's future was about to be shown to a model."""


class MissingExtraError(LifeloraError, ImportError):
    """An optional dependency is needed and absent."""

    def __init__(self, package: str, extra: str, what_for: str) -> None:
        super().__init__(f"{what_for} needs '{package}', which is not installed: pip install 'lifelora[{extra}]'")


@dataclass(frozen=True)
class Problem:
    """One fault in a user's file: ``line`` counts from 1 and includes a header; None when the whole file is meant."""

    file: str
    line: int | None
    column: str | None
    value: str | None
    what: str

    def __str__(self) -> str:
        file = on_one_line(self.file)
        place = file if self.line is None else f"{file}:{self.line}"
        column = f", column '{on_one_line(self.column)}'" if self.column else ""
        value = f", value {self.value!r}" if self.value is not None else ""
        return f"{place}{column}{value}: {self.what}"


class DataError(LifeloraError, ValueError):
    """Bad rows in a user's data: all are counted, the first ``SHOWN`` are listed, and no work has started."""

    SHOWN = 20

    def __init__(self, problems: Sequence[Problem], count: int | None = None) -> None:
        self.problems = tuple(problems)
        self.count = len(self.problems) if count is None else count
        shown = "\n".join(f"  {problem}" for problem in self.problems[: self.SHOWN])
        more = self.count - min(len(self.problems), self.SHOWN)
        rest = f"\n  … and {more:,} more" if more > 0 else ""
        super().__init__(f"{self.count:,} problem{'s' if self.count != 1 else ''} in the data:\n{shown}{rest}")


class ConflictError(DataError):
    """A key of an event stands for another event already; nothing of the bulk is kept."""
