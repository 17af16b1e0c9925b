"""What stands beside every figure: the command, the date, the seed, what was served, and the machine. Knows no figure."""

import hashlib
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lifelora.run import Run

PLACE = re.compile(r"(?<![^\s=:])/(?:[^\s/:=]+/)+")
"""The folders of an absolute path, which say nothing to others."""


def say(text: str) -> None:
    """What is being done, and when."""
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", file=sys.stderr, flush=True)


def begin_in(folder: Path) -> None:
    """Make a folder; SystemExit for one that is there, whose files are of another measurement."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise SystemExit(f"{folder} is there already; name a new folder, or remove it.") from None


def facts(seed: int) -> dict[str, Any]:
    """Of this command on this machine."""
    return {
        "command": shlex.join(["python", f"benchmarks/service/{Path(sys.argv[0]).name}", *map(_short, sys.argv[1:])]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "processes_that_ran_beside": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "peft", "fastapi", "uvicorn")},
        },
    }


def identity(run: Run) -> dict[str, Any]:
    """What is served, to the last digit: the recipe's hash and the keys of the systems."""
    recipe = hashlib.sha256((run.folder / "recipe.toml").read_bytes()).hexdigest()[:16]
    return {
        "recipe": recipe,
        "users": run.context.dataset.n_users,
        "items": run.context.dataset.n_items,
        "keys": {name: scorer.stage.key for name, scorer in run.scorers.items()},
    }


def write(out: Path | None, result: Mapping[str, Any]) -> None:
    """Print a result, and keep it."""
    text = json.dumps(result, indent=1) + "\n"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
    print(text, end="")


def _short(word: str) -> str:
    return PLACE.sub("", word)


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.machine()
