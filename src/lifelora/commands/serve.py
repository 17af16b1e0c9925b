"""`lifelora serve`: a finished run over HTTP."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from lifelora.commands.opening import options_of, say, store_of
from lifelora.commands.words import Add, finished, kept, options

if TYPE_CHECKING:
    from lifelora.run import Run


def add(command: Add) -> None:
    """serve."""
    sub = command("serve", "Answer requests out of a finished run over HTTP, and keep what users do.", handle)
    finished(sub)
    sub.add_argument("--host", default="127.0.0.1", help="The address to listen on. Others than this machine's own need --keys.")
    sub.add_argument("--port", type=port, default=8000, help="The port to listen on; 0 takes a free one. By default 8000.")
    kept(sub)
    sub.add_argument("--keys", type=Path, metavar="FILE", help="Who may call, and limits, in TOML or JSON (see docs/service.md).")
    sub.add_argument(
        "--warm-memory",
        type=size,
        metavar="SIZE",
        help="The most memory for what stays warm of users between requests, as 512MiB or 2GiB; 0: none. By default 1GiB.",
    )
    options(sub)


def port(word: str) -> int:
    """A port's number."""
    if not word.isdecimal() or int(word) > 65535:
        raise argparse.ArgumentTypeError(f"'{word}' is not a port; give a number from 0 to 65535")
    return int(word)


def size(word: str) -> int:
    """Bytes: a number and its unit."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(KiB|MiB|GiB|TiB)", word)
    if found is None and word != "0":
        raise argparse.ArgumentTypeError(f"'{word}' is not a size; give a number with KiB, MiB, GiB or TiB, as 512MiB, or 0")
    return 0 if found is None else int(float(found[1]) * UNITS[found[2]])


def handle(arguments: argparse.Namespace) -> int:
    """Check what can be checked at once, then load, then answer until a signal."""
    from lifelora.serving.app import web  # first of all: whether the extra is there  # noqa: F401
    from lifelora.serving.app.keys import may_bind, opened
    from lifelora.serving.app.server import address, bound, serve
    from lifelora.serving.app.service import Service
    from lifelora.serving.engine import EngineOptions

    keys, limits = opened(arguments.keys)
    may_bind(arguments.host, keys)
    store = store_of(arguments)
    warm = {} if arguments.warm_memory is None else {"warm_bytes": arguments.warm_memory}
    bounds = EngineOptions(candidates=limits.candidates, **warm)
    run = _finished(arguments)
    with bound(arguments.host, arguments.port) as listening:
        say(_told(run, store))
        where = address(listening)

        def ready() -> None:
            say(f"serving {arguments.run} at {where}; Ctrl-C or SIGTERM ends it.")

        service = Service(lambda: _finished(arguments), store, bounds)
        serve(service, listening, keys, limits, ready, lambda: opened(arguments.keys)[0])
    return 0


def _finished(arguments: argparse.Namespace) -> "Run":
    """The run that is at the place now: where it is a link, what it leads to now, and no longer what it leads to later."""
    from lifelora.errors import ConfigError
    from lifelora.run import Run
    from lifelora.serving.app.service import unfinished

    run = Run.open(arguments.run.resolve(), options_of(arguments))
    run.stages.data.require()
    if names := list(unfinished(run)):
        raise ConfigError(
            f"{arguments.run} is not finished: {', '.join(names)} of it are not trained; `lifelora run {arguments.run}`."
        )
    return run


def _told(run: "Run", store: str | Path) -> str:
    """What is loaded, and about how long it takes."""
    from lifelora.progress import duration
    from lifelora.serving.store import Form, Store

    with Store.open(store, Form.of(run.stages.data.require())) as opened:
        events, place = opened.last_seq(), opened.place
    folders = [stage.folder for stage in run.stages.every() if stage.complete()]
    size = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    seconds = START + size / BYTES + events / EVENTS
    return (
        f"loading {run.folder}: {', '.join(run.scorers)} ({size / 1e6:,.0f} MB), and up to {events:,} events of {place}; "
        f"that takes about {duration(seconds)}."
    )


UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
START, BYTES, EVENTS = 3.0, 50e6, 30_000.0
"""Seconds for anything, bytes of a run a second, events of a store a second: what two slow cores do."""
