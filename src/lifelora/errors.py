"""One family of errors. Each message says what came, where, what is allowed, and the mend."""

from collections.abc import Sequence
from dataclasses import dataclass


class LifeloraError(Exception):
    """Anything lifelora refuses; ``except LifeloraError`` catches them all."""


class ConfigError(LifeloraError, ValueError):
    """A recipe, an option or an argument has a value that is not allowed."""


class ArtefactError(LifeloraError, RuntimeError):
    """A stage's files are missing, damaged, or made from something else."""


class ScopeError(LifeloraError, RuntimeError):
    """A personalised layer ran without a person in scope, or with another number of people than rows."""


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
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        column = f", column '{self.column}'" if self.column else ""
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
