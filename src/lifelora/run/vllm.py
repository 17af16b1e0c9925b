"""Adapters of many users in folders that vLLM finds by name: what it will take, said before it begins. Knows scorers and files.

    seconds = users · (seconds of the timed users / their number),   bytes = users without a folder of theirs · bytes of one

What is there already is not written again.
"""

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import torch
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.evaluation.tables import duration
from lifelora.llm.backbone import Pretrained
from lifelora.lora.collection import INDEX, Collection, Entry
from lifelora.lora.export import packed
from lifelora.lora.vllm import check
from lifelora.owner import owned
from lifelora.progress import Progress
from lifelora.run.export import COHORT, Exporter, language
from lifelora.run.run import Run

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Dtype = Literal["fp32", "bf16", "fp16"]
TIMED = 4
"""Users that are made before it begins; the first is not timed where there are others, since it loads what all need."""
BATCH = 32
"""Adapters in one batch of vLLM's, as the printed command has it: it keeps a place on the GPU for each."""
ROOM = 8192
"""Bytes of disk that a folder may take beside those of its files."""
SAVED = 500
"""Users after which the index is written, so that a kill loses no more of it; the same command finds the folders again."""


@final
@dataclass(frozen=True)
class Plan:
    """What is going to be written, and where."""

    exporter: Exporter
    collection: Collection
    dtype: Dtype
    rank: int
    max_lora_rank: int
    size: int
    "Bytes of one user's files."
    seconds: float
    "Expected, without what the disk takes."
    missing: int
    "Users that have no folder there yet; all of them where one that has turns out to have changed."
    free: int
    "Bytes."

    @classmethod
    def of(cls, run: Run, folder: Path, *, system: str | None, users: Sequence[str] | None, dtype: Dtype = "fp32") -> "Plan":
        """Make a few adapters, write nothing. Raises ConfigError for what vLLM does not load, and what ``Exporter.of`` raises."""
        asked = None if users is None else list(users)
        exporter = _exporter(run, system, asked)
        name = exporter.scorer.name
        most = check(exporter.scorer.lm.adapters, name)
        if (folder / COHORT).exists():
            raise ConfigError(f"'{folder}' holds adapters of another layout ({COHORT}); choose another folder.")
        collection = Collection.open(folder, name, run.context.base_model)
        seconds, entries, began = list[float](), list[Entry](), time.perf_counter()
        for user, config, tensors in exporter.adapters(None if asked is None else asked[:TIMED]):
            entries.append(Entry.of(user or name, packed(config, _as(dtype, tensors)), int(config["r"])))
            seconds.append(time.perf_counter() - began)
            began = time.perf_counter()
        timed, users_named = seconds[1:] or seconds, asked or [name]
        changed = any(one.user in collection.current and one != collection.current[one.user] for one in entries)
        return cls(
            exporter,
            collection,
            dtype,
            entries[0].rank,
            most,
            max(one.bytes for one in entries),
            len(users_named) * sum(timed) / len(timed),
            len(users_named) if changed else sum(user not in collection.current for user in users_named),
            _free(folder),
        )

    @property
    def count(self) -> int:
        """Adapters."""
        return 1 if self.exporter.users is None else len(self.exporter.users)

    @property
    def needed(self) -> int:
        """Bytes of disk."""
        return self.missing * (self.size + ROOM)

    def refuse(self) -> None:
        """Raise ConfigError where the disk has too little room."""
        if self.needed > self.free:
            fit = self.free // (self.size + ROOM)
            half = "" if self.dtype != "fp32" else ", give --dtype bf16, which halves it,"
            raise ConfigError(
                f"{self.missing:,} adapters of {megabytes(self.size)} need {megabytes(self.needed)}, and there are "
                f"{megabytes(self.free)} free in {self.collection.folder}: room for {fit:,}. Nothing was written. Make "
                f"room{half} or give a smaller --cohort."
            )

    def write(self) -> "Written":
        """Write what is not there, and the index: after a kill it goes on. Raises BusyError where another process writes."""
        folder, name, written = self.collection.folder, self.exporter.scorer.name, 0
        with owned(folder):
            collection = Collection.open(folder, name, self.collection.base_model)
            collection.clear_torn()
            show = self.exporter.run.context.shows_progress and self.count > 1
            try:
                with Progress("adapters", self.count, unit="users", enabled=show) as ticker:
                    for number, (user, config, tensors) in enumerate(self.exporter.adapters(), start=1):
                        written += collection.add(user or name, packed(config, _as(self.dtype, tensors)), int(config["r"]))
                        if number % SAVED == 0:
                            collection.save()
                        ticker.advance(1)
            finally:
                collection.save()
        return Written(self, collection, written)

    def __str__(self) -> str:
        what, there = "adapter" if self.count == 1 else "adapters", self.count - self.missing
        told = f"{self.count:,} {what} of '{self.exporter.scorer.name}', rank {self.rank}, {self.dtype}: "
        told += f"{megabytes(self.size)} each, {megabytes(self.count * self.size)} in all"
        told += f", of which {there:,} seem to be there" if there else ""
        told += f"; {megabytes(self.free)} are free in {self.collection.folder}. Making them takes about {duration(self.seconds)}"
        return f"{told}, and writing them what the disk takes.{_rounded(self.exporter.run)}"


@final
@dataclass
class Written:
    """What was written."""

    plan: Plan
    collection: Collection
    written: int

    def prune(self) -> tuple[int, list[Path]]:
        """As of a collection's, which no other process writes in meanwhile."""
        with owned(self.collection.folder):
            self.collection = Collection.open(self.collection.folder, self.collection.system, self.collection.base_model)
            return self.collection.prune()

    def __str__(self) -> str:
        folder, plan, old, count = self.collection.folder, self.plan, len(self.collection.old), len(self.collection.current)
        lines = [
            f"export: {plan.count:,} adapter{'s' * (plan.count > 1)} in {folder}, {self.written:,} of them written now; "
            f"{folder / INDEX} says which is whose, for {self.collection.base_model}"
        ]
        if old:
            lines.append(f"{old:,} older ones are no longer any user's newest (`old` in {INDEX}); --prune removes them")
        lines += [
            "vLLM finds them by name with",
            "  VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_PLUGINS=lora_filesystem_resolver \\",
            f"  VLLM_LORA_RESOLVER_CACHE_DIR={shlex.quote(str(folder.resolve()))} \\",
            f"  vllm serve {shlex.quote(self.collection.base_model)} --enable-lora --max-lora-rank {plan.max_lora_rank} \\",
            f"  --max-loras {min(count, BATCH)} --max-cpu-loras {count}",
        ]
        return "\n".join(lines)


def megabytes(number: int) -> str:
    """0.92 MB, 84 GB: in powers of ten."""
    return (
        f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.2f} MB" if number < 1e8 else f"{number / 1e6:,.0f} MB"
    )


def _as(dtype: Dtype, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(DTYPES[dtype]) for name, tensor in tensors.items()}


def _exporter(run: Run, system: str | None, users: list[str] | None) -> Exporter:
    """Of a system whose users have one adapter each, for all of the language model that vLLM will serve."""
    backbone = run.recipe.backbone
    if isinstance(backbone, Pretrained) and backbone.layers is not None:
        raise ConfigError(
            f"the run's language model has the first {backbone.layers} layers alone (backbone.layers), and vLLM serves all of "
            f"{backbone.path}: its answers would be others. Export a run without backbone.layers."
        )
    scorer = language(run, system)
    if users is not None and scorer.u_sees_target and scorer.parents.representation is not None:
        raise ConfigError(
            f"u of system '{scorer.name}' comes from '{scorer.parents.representation.name}' and depends on the target: a user "
            "has another adapter for every item, and a name in vLLM stands for one. Serve the run itself, or export a system "
            "whose u comes from a model that does not see the target (systems.NAME.representation, with sasrec, say)."
        )
    return Exporter.of(run, scorer.name, users, None)


def _free(folder: Path) -> int:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _rounded(run: Run) -> str:
    """What a reader should know of a backbone whose weights were rounded."""
    backbone = run.recipe.backbone
    if not isinstance(backbone, Pretrained) or backbone.quantization == "none":
        return ""
    served = f"vLLM serves those of {backbone.path} as it is told"
    return f" They were trained on weights in {backbone.quantization}, and {served}: scores differ a little."
