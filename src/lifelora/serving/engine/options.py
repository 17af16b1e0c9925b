"""What an engine may be told that does not change what a system says. Knows no engine."""

from dataclasses import dataclass

from lifelora.errors import ConfigError


@dataclass(frozen=True)
class EngineOptions:
    """Bounds of memory and time."""

    fallback: str | None = None
    """The conventional model that answers where a deadline would be missed; None: the run's best one on validation samples."""
    warm_bytes: int = 1 << 30
    "For trunks, u and C(u) of users, which stay from one request to the next; with 0 none is kept."
    candidates: int = 1000
    "The most that one request may have."
    waiting: int = 10_000
    "The most requests that may wait."
    turn: float = 0.25
    "Seconds: requests that are answered together take about as long at most, or are one."
    tokens: int | None = None
    "The most tokens that are read for requests that are answered together; None: as many as the memory bears."

    def __post_init__(self) -> None:
        for name, least in (("warm_bytes", 0), ("candidates", 1), ("waiting", 1), ("turn", 0.0), ("tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"EngineOptions({name} = {value}): give {least} or more.")
