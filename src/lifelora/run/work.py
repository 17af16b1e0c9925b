"""Work in a run's folder: one owner at a time, stage by stage, and how long each took. Knows stages, not what is in them.

Of several processes the first alone owns the folder and makes what is in it; the others wait, or work with it on the stages that
all make together.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError

from lifelora.artefacts import clear_torn, read_json, write_atomically
from lifelora.errors import ArtefactError
from lifelora.owner import owned
from lifelora.progress import say
from lifelora.run.stages import RECIPE_FILE, Stages
from lifelora.stage import NOT_MADE, Stage
from lifelora.training import parallel

TIMING = ".lifelora.timing.json"
"""A name that only lifelora gives to a file, so that it can be replaced."""


class Work:
    """What lifelora does in the folder of some stages; ``progress`` is whether it says why."""

    def __init__(self, stages: Stages, progress: bool) -> None:
        self.stages, self.folder, self._progress, self._owner = stages, stages.folder, progress, False

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Nobody else makes anything in the folder; what a killed owner left half-written beside the stages is removed."""
        if self._owner:
            yield
            return
        with ExitStack() as lock, parallel.ending_together():
            with parallel.by_the_first() as first:
                if first:
                    lock.enter_context(owned(self.folder))
                    for name in (RECIPE_FILE, TIMING):
                        clear_torn(self.folder, name)
            self._owner = True
            try:
                yield
            finally:
                self._owner = False

    def write_recipe(self) -> None:
        """The recipe, beside the stages; nothing is written in a folder that lifelora did not make."""
        with parallel.by_the_first() as first:
            if first:
                self.stages.data.lacking()
                self.stages.write_recipe()

    @contextmanager
    def making(self, stage: Stage, *, together: bool = False) -> Iterator[Path | None]:
        """The stage's folder to fill, or None where it is finished; how long it took is noted.

        Of several processes the first makes the stage, and the others, which get None, wait until it is there. ``together``: all
        of them make it, as training and scoring ask for. Each writes into the folder that it gets as if it were alone; the
        first one's becomes the stage, and those of the others are thrown away.
        """
        with parallel.by_the_first() as first, ExitStack() as begun:
            folder = begun.enter_context(self._making(stage, parallel.processes() if together else 1)) if first else None
            if not together:
                yield folder
                return
            ending = begun.pop_all()  # the stage is not at its end here
        with ending:
            if parallel.agreed(folder is not None):
                with parallel.together():
                    yield folder or Path(ending.enter_context(TemporaryDirectory(prefix="lifelora-")))
            else:
                yield None
            with parallel.by_the_first() as first:
                ending.close()

    @contextmanager
    def _making(self, stage: Stage, processes: int) -> Iterator[Path | None]:
        why = stage.why_not()
        if why is None:
            stage.tidy()
            yield None
            return
        if why != NOT_MADE and self._progress:
            say(f"{stage.name}: made again; it was {why}")
        again, began = stage.begun(), time.monotonic()
        try:
            with stage.making({"threads": torch.get_num_threads(), "processes": processes}) as folder:
                yield folder
        except SafetensorError as error:  # which is no OSError
            raise ArtefactError(f"a file of tensors for stage '{stage.name}' cannot be read or written ({error}).") from error
        timing = self.seconds() | {stage.name: None if again else round(time.monotonic() - began, 2)}
        write_atomically(self.folder / TIMING, json.dumps(timing, indent=1))

    def seconds(self) -> dict[str, float | None]:
        """How long each stage took, by its name; None for one that was made in several goes.

        It decides nothing, so a file that cannot be read is as good as none.
        """
        try:
            timing = read_json(self.folder / TIMING)
        except (ArtefactError, OSError):
            return {}
        return {name: took if isinstance(took, float) and math.isfinite(took) else None for name, took in timing.items()}
