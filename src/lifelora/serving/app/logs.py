"""The log: JSON, an object a line, with nothing about a user. Knows no request.

A line has time, level, event, and what the event has to say: numbers, routes as templates, traces. No ids, titles or keys; of an
error its kind and where in the code it was raised, and not its text, which may name a user.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

LOGGER = logging.getLogger("lifelora.serving")
OTHERS = ("uvicorn", "uvicorn.error", "asyncio")
"""Loggers of what we stand on: their warnings go the same way."""


class Json(logging.Formatter):
    """A record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        told = getattr(record, "told", None)
        if told is None:  # of another library: what it said, without what it said it of
            line |= {"event": record.name, "message": str(record.msg)}
        else:
            line |= {"event": record.getMessage(), **told}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"], line["raised"] = where(record.exc_info[1])
        return json.dumps(line)


def tell(event: str, *, level: int = logging.INFO, error: BaseException | None = None, **told: Any) -> None:
    """One line."""
    LOGGER.log(level, event, extra={"told": told}, exc_info=error)


def where(error: BaseException) -> tuple[str, list[str]]:
    """The kind of an error, and the last places in the code that it passed: modules, functions, lines."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = [
        f"{frame.filename.rpartition('site-packages/')[2].rpartition('src/')[2]}:{frame.lineno} {frame.name}" for frame in frames
    ]
    return type(error).__name__, places


def begin() -> None:
    """From here on the log goes to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json())
    for name, level in ((LOGGER.name, logging.INFO), *((other, logging.WARNING) for other in OTHERS)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
