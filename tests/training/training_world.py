"""A world with a known answer: points that a line separates, and small nets.

As a program: ``kill FOLDER`` trains with kills and without; ``parallel FOLDER`` is what torchrun runs.
"""

import json
import os
import random
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.checkpoint import checkpoint as run_again_in_backward

from lifelora.training import CHECKPOINT, Scheduled, TrainingConfig, fit
from lifelora.training.checkpoint import Checkpoint, Learnt
from lifelora.training.curve import History

WIDTH = 4
points_ND = torch.randn(96, WIDTH, generator=torch.Generator().manual_seed(5))
label_N = (points_ND @ torch.tensor([2.0, -1.0, 0.5, 0.0]) > 0).float()
train_N, valid_N = np.arange(64), np.arange(64, 96)


@dataclass(frozen=True)
class Rows:
    x_BD: Tensor
    label_B: Tensor
    hybrid: bool | Tensor = False


def gather(rows_B: np.ndarray) -> Rows:
    return Rows(points_ND[rows_B], label_N[rows_B])


def weights(net: nn.Module) -> dict[str, Tensor]:
    """All of them as they are now."""
    return {name: value.clone() for name, value in net.state_dict().items()}


class Logistic(nn.Module):
    """Logistic regression from zero."""

    def __init__(self) -> None:
        super().__init__()
        self.net: nn.Module = nn.Linear(WIDTH, 1)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def logits(self, batch: Rows) -> Tensor:
        return self.net(batch.x_BD).squeeze(-1)

    def loss(self, batch: Rows) -> Tensor:
        return binary_cross_entropy_with_logits(self.logits(batch), batch.label_B)

    def scope(self, batch: Rows) -> AbstractContextManager[None]:
        return nullcontext()

    def validate(self) -> dict[str, float]:
        with self.scope(gather(valid_N)):
            logits = self.logits(gather(valid_N))
        liked, others = logits[label_N[valid_N] == 1], logits[label_N[valid_N] == 0]
        auc = (liked[:, None] > others).double().mean() + 0.5 * (liked[:, None] == others).double().mean()
        return {"auc": auc.item(), "log_loss": binary_cross_entropy_with_logits(logits, label_N[valid_N]).item()}


class Deep(Logistic):
    """With dropout (noise) and batch norm (buffers that training changes)."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(WIDTH, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.3), nn.Linear(6, 1))
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


class Scoped(Logistic):
    """Needs what its scope holds, also when its layer runs again in backward, as the personal LM does."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.held: Tensor | None = None
        self.entered: list[int] = []
        self.runs = 0

    @contextmanager
    def scope(self, batch: Rows) -> Iterator[None]:
        assert self.held is None, "scopes must not nest"
        self.held = self.gain * 2.0
        if self.training:
            self.entered.append(len(batch.label_B))
        yield
        self.held = None

    def logits(self, batch: Rows) -> Tensor:
        def layer(x_BD: Tensor) -> Tensor:
            if self.held is None:
                raise RuntimeError("ran outside its scope")
            self.runs += self.training
            return torch.tanh(self.net(x_BD).squeeze(-1)) * self.held

        return run_again_in_backward(layer, batch.x_BD, use_reentrant=False)


class Course(Scoped):
    """With a parameter that only some steps use."""

    def __init__(self) -> None:
        super().__init__()
        self.sometimes = nn.Parameter(torch.ones(WIDTH))

    def logits(self, batch: Rows) -> Tensor:
        if batch.hybrid is False:
            return super().logits(batch)
        gain = torch.where(torch.as_tensor(batch.hybrid), self.sometimes, torch.ones(WIDTH))
        return super().logits(replace(batch, x_BD=batch.x_BD * gain))


class Mixed:
    """Every third micro-batch is hybrid, so that a step mixes forms, and its last micro-batches may leave the parameter out."""

    def at(self, step: int, planned: int, part: int) -> Callable[[np.ndarray], Rows]:
        return lambda rows_B: replace(gather(rows_B), hybrid=(step + part) % 3 == 1)


class MixedOfTwo:
    """The same in one micro-batch: its rows are hybrid where those of ``Mixed`` are, of two processes with two parts each."""

    def at(self, step: int, planned: int, part: int) -> Callable[[np.ndarray], Rows]:
        def rows(rows_B: np.ndarray) -> Rows:
            place_B = torch.arange(len(rows_B))  # row n is the process n % 2's, whose parts have four rows
            part_B = place_B // 2 // 4 * 2 + place_B % 2
            made = gather(rows_B)
            return replace(made, hybrid=((step + part_B) % 3 == 1)[:, None])

        return rows


class Alternating:
    """Every third step is hybrid."""

    def at(self, step: int, planned: int, part: int) -> Callable[[np.ndarray], Rows]:
        return lambda rows_B: replace(gather(rows_B), hybrid=step % 3 == 1)


def run(
    net: Logistic,
    folder: Path,
    *,
    seed: int = 0,
    rows_N: np.ndarray = train_N,
    gather: Callable[[np.ndarray], Any] | Scheduled = gather,
    validate: Callable[[], dict[str, float]] | None = None,
    checkpoint_seconds: float = 1e9,
    together_N: np.ndarray | None = None,
    **config: Any,
) -> History:
    settings = TrainingConfig.model_validate({"batch_size": 16, **config})
    return fit(
        net,
        rows_N,
        gather,
        validate or net.validate,
        settings,
        folder,
        seed,
        together_N=together_N,
        device="cpu",
        checkpoint_seconds=checkpoint_seconds,
    )


KILLED: dict[str, Any] = {
    "epochs": 12,
    "schedule": "cosine",
    "warmup": 0.1,
    "learning_rate": 0.1,
    "patience": 4,
    "select": "-log_loss",
    "evaluations_per_epoch": 2,
    "weight_decay": 0.01,
    "accumulation": 2,
}
"""The training that is killed: it stops early, several evaluations after its best."""
PARALLEL: dict[str, Any] = {"rows_N": np.arange(65), "epochs": 2, "learning_rate": 0.1, "accumulation": 2, "weight_decay": 0.01}
"""65 rows in batches of 16: the last batch is one row, so one of two processes has none."""


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(folder: Path, moment: tuple[str, float], checkpoint_seconds: float) -> int:
    """Train in a child that gets SIGKILL at the moment; its exit status (-9), or 0 when it came to its end before."""
    where, when = moment
    child = os.fork()
    if child == 0:
        calls = {"gather": 0, "fsync": 0}
        flush = os.fsync

        def counted(name: str) -> None:
            calls[name] += 1
            if name == where and calls[name] == when:
                die()

        def dying_gather(rows_B: np.ndarray) -> Rows:
            counted("gather")
            return gather(rows_B)

        def dying_fsync(descriptor: int) -> None:  # here the temporary file is written and not yet renamed
            if stat.S_ISREG(os.fstat(descriptor).st_mode):  # and not the folder, which is flushed after the renaming
                counted("fsync")
            flush(descriptor)

        os.fsync = dying_fsync
        run(Deep(), folder, gather=dying_gather, checkpoint_seconds=checkpoint_seconds, **KILLED)
        sys.stdout.flush()
        os._exit(0)
    if where == "seconds":
        time.sleep(when)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_and_resume(folder: Path) -> list[dict[str, Any]]:
    """A training killed at many moments and at last left alone, beside one that never was."""
    torch.optim.AdamW(Deep().parameters())  # PyTorch imports its compiler with the first optimiser: once, not per child
    assert attempt(folder / "whole", ("never", 0), 1e9) == 0
    log = []
    draw = random.Random(1)
    moments: list[tuple[str, float]] = [("gather", 1), ("gather", 4), ("fsync", 1), ("fsync", 3), ("gather", 9)]
    moments += [("fsync", 2), *(("seconds", draw.uniform(0.0, 0.15)) for _ in range(6))]
    for number, moment in enumerate(moments):
        status = attempt(folder / "killed", moment, checkpoint_seconds=0.0 if number % 3 else 1e9)
        path = folder / "killed" / CHECKPOINT
        steps = -1
        if path.exists():
            net = Deep()
            text = Checkpoint(path, Learnt(net), torch.optim.AdamW(net.parameters()), None).progress()
            steps = History.model_validate_json(text).steps
        torn = len(list((folder / "killed").glob(".*.safetensors.*")))
        log.append({"moment": moment[0], "status": status, "steps": steps, "torn": torn})
    log.append({"moment": "never", "status": attempt(folder / "killed", ("never", 0), 1e9)})
    return log


if __name__ == "__main__":
    where = Path(sys.argv[2])
    if sys.argv[1] == "kill":
        sys.stdout.write(json.dumps(kill_and_resume(where)))
    else:
        run(Scoped(), where, **PARALLEL)
        run(Course(), where / "course", gather=Alternating(), **PARALLEL)
        run(Course(), where / "mixed", gather=Mixed(), **PARALLEL)
        (where / f"rank{os.environ['RANK']}").touch()
        torch.distributed.destroy_process_group()
