"""Nano LMs that runs on the same data share: copies in the user's cache, each a stage of its own. Knows no model."""

import shutil
from pathlib import Path

from lifelora.cache import cache_folder
from lifelora.errors import LifeloraError
from lifelora.folders import MANIFEST, remove
from lifelora.owner import owned
from lifelora.progress import say
from lifelora.stage import Stage
from lifelora.training import parallel


def kept(stage: Stage, folder: Path) -> bool:
    """Whether the cache has what ``stage`` would make, sound; its files are in ``folder`` then.

    Of several processes the first one's cache and folder count.
    """
    with parallel.by_the_first() as first:
        found = first and _copied(_cached(stage), folder)
    return parallel.agreed(found)


def _copied(cached: Stage, folder: Path) -> bool:
    try:
        sound = cached.complete()
    except LifeloraError as error:
        say(f"{cached.name}: made anew, for its copy in the cache is damaged: {error}")
        return False
    if sound:
        shutil.copytree(cached.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    return sound


def keep(stage: Stage) -> None:
    """Put a copy of the finished stage into the cache. A run does without: where that cannot be, it is said."""
    with parallel.by_the_first() as first:
        if first:
            _keep(stage, _cached(stage))


def _keep(stage: Stage, cached: Stage) -> None:
    try:
        with owned(cached.folder.parent):
            for left in cached.folder.parent.glob("*.working"):  # by a process that was killed, for this one owns the folder
                remove(left)
            if not cached.complete():
                with cached.making() as folder:
                    shutil.copytree(stage.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
    except (OSError, LifeloraError) as error:
        say(f"{stage.name}: no copy is kept for other runs on the same data: {error}")


def _cached(stage: Stage) -> Stage:
    return stage.at(cache_folder() / "nano" / stage.key)
