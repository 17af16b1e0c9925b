"""What a client of the fault run writes down before and after each step, so that it can be killed anywhere. Knows no HTTP.

A file of lines of JSON, one a step: ``{"sends": event}`` before an event is sent for the first time, ``{"kept": id, "seq": n}``
once it was acknowledged, ``{"asked": …}`` with an answer. A client sends a user's next event only when the last one was
acknowledged, and asks about a user only then: so an answer's history is known to the event. A killed client's last line may be
torn; it is cut off.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Line = dict[str, Any]


@dataclass
class Diary:
    """Of one client, as far as it is written."""

    kept: dict[str, list[Line]] = field(default_factory=dict)
    "Of each user the events that were acknowledged, in their order."
    pending: Line | None = None
    "An event that was sent, or was about to be, and not acknowledged."
    answers: list[Line] = field(default_factory=list)
    failures: list[Line] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Diary":
        """What is there; nothing in a file that is not."""
        made = cls()
        for line in _whole(path).splitlines():
            made.take(json.loads(line))
        return made

    def take(self, line: Line) -> None:
        """One more step."""
        if "sends" in line:
            assert self.pending is None, "the last event was not acknowledged"
            self.pending = line["sends"]
        elif "kept" in line:
            assert self.pending is not None
            assert self.pending["id"] == line["kept"]
            self.kept.setdefault(self.pending["user"], []).append(self.pending | {"seq": line["seq"]})
            self.pending = None
        else:
            (self.answers if "asked" in line else self.failures).append(line)


class Pen:
    """Writes a diary on, after the last whole line."""

    def __init__(self, path: Path) -> None:
        self.diary = Diary.read(path)
        whole = len(_whole(path).encode())
        self._file = os.open(path, os.O_CREAT | os.O_RDWR)
        os.ftruncate(self._file, whole)
        os.lseek(self._file, 0, os.SEEK_END)

    def write(self, line: Line) -> None:
        """With one call of the system, which keeps what a killed process has written."""
        os.write(self._file, json.dumps(line).encode() + b"\n")
        self.diary.take(line)


def _whole(path: Path) -> str:
    text = path.read_bytes().decode(errors="replace") if path.is_file() else ""
    return text[: text.rfind("\n") + 1]
