"""Runs that get SIGKILL at drawn moments, beside runs that do not. As a program: ``TASK FOLDER KILLS``, which prints a log.

Every attempt is a child that this process forks: what it needs is imported once, and nothing has run here before. Each recipe is
run to its end, then another seed of it in the same folder, so that every stage is replaced and its old files are removed.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lifelora.progress import Progress
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.stage import CURVES, MANIFEST
from run_world import TRAINING, VALUES, tiny

REMOVING = ("rename", "unlink", "rmdir")
CALLS = (*REMOVING, "replace", "fsync")
"""Of the system: a child is killed just before one of them."""
CLOCKS = ("costs.json", "table.txt", "report.html", "evaluation.json", "adapter_config.json")
"""Files of a run that hold times, or the name of its folder."""


def asked_next() -> Recipe:
    """The other task, with an LM that ranks titles."""
    system = {
        "behaviours": {"kind": "most-recent", "k": 3},
        "train_samples": 24,
        "validation_samples": 8,
        "training": TRAINING,
        "coupling": {"kind": "experts", "rank": 2, "experts": 2},
        "representation": {"model": "sasrec"},
        "shortlist": 6,
    }
    sasrec = {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
    rules = {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 6}}
    return parse(
        {
            "name": "next",
            "task": "next-item",
            "data": VALUES["data"] | {"rules": rules},
            "backbone": VALUES["backbone"] | {"template": {"kind": "next-item"}},
            "conventional": {"popularity": {"model": {"kind": "popularity"}}, "sasrec": {"model": sasrec, "training": TRAINING}},
            "systems": {"text": system},
            "evaluation": VALUES["evaluation"] | {"test_samples": 8, "written_tokens": 4},
        },
        "the tests' recipe",
    )


def attempt(recipe: Recipe, folder: Path, where: str, when: float) -> tuple[int, str, float]:
    """Run in a child that is killed at the moment; its exit status (-9, or 0 at the end), what it was at, the time it took."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        os.environ["LIFELORA_CACHE"] = str(folder.with_name(f"cache-{folder.name}"))
        counts = dict.fromkeys((*CALLS, "batch"), 0)

        def counted(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
            def call(*words: Any, **named: Any) -> Any:
                counts[name] += 1
                removed = sum(counts[each] for each in REMOVING) if name in REMOVING else 0
                if (where, when) in ((name, counts[name]), ("removing", removed)):
                    os.kill(os.getpid(), signal.SIGKILL)
                return inner(*words, **named)

            return call

        for name in CALLS:
            setattr(os, name, counted(name, getattr(os, name)))
        Progress.advance = counted("batch", Progress.advance)  # type: ignore[method-assign]
        Run(recipe, folder, Options(device="cpu", progress=False)).all()
        os._exit(0)
    if where == "seconds":
        time.sleep(when)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    at = [path.name for path in folder.rglob("*.working")] + [path.name for path in folder.rglob("*.old")]
    return status, " ".join(sorted(at)), time.monotonic() - began


def made(folder: Path) -> dict[str, str]:
    """The hash of every file of a run that has to be the same, by its manifests."""
    return {
        f"{path.parent.relative_to(folder)}/{name}": kept["sha256"]
        for path in folder.rglob(MANIFEST)
        for name, kept in json.loads(path.read_text())["files"].items()
        if CURVES not in name and Path(name).name not in CLOCKS
    }


def kill_and_go_on(recipe: Recipe, folder: Path, kills: int) -> dict[str, Any]:
    """Both seeds, with kills and without."""
    log: dict[str, Any] = {"kills": [], "differing": [], "files": 0, "left": []}
    draw, left = random.Random(recipe.task), kills
    for seed in (0, 1):
        some = recipe.model_copy(update={"seed": seed})
        status, _, seconds = attempt(some, folder / "whole", "never", 0)
        assert status == 0
        while left > (kills // 2 if seed == 0 else 0):
            where = draw.choice(("seconds", "removing", "batch", *CALLS))
            when = draw.uniform(0.1, 0.2) * seconds if where == "seconds" else draw.randint(1, 12 if where != "fsync" else 60)
            status, at, _ = attempt(some, folder / "killed", where, when)
            log["kills"].append([seed, where, when, status, at])
            left -= status == -signal.SIGKILL
            if status != -signal.SIGKILL:
                assert status == 0, log
                if seed == 0:
                    break
                some = some.model_copy(update={"seed": some.seed + 1})  # finished: replace everything again
                assert attempt(some, folder / "whole", "never", 0)[0] == 0
        assert attempt(some, folder / "killed", "never", 0)[0] == 0
        whole, killed = made(folder / "whole"), made(folder / "killed")
        log["files"] += len(whole)
        log["differing"] += [name for name in whole.keys() | killed.keys() if whole.get(name) != killed.get(name)]
        log["left"] += [str(path) for pattern in ("*.working", "*.old", ".*.part") for path in (folder / "killed").rglob(pattern)]
    return log


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(
        json.dumps(kill_and_go_on({"ctr": tiny, "next-item": asked_next}[sys.argv[1]](), Path(sys.argv[2]), int(sys.argv[3])))
    )
