"""The one training loop: steps, evaluations, the best weights, going on after a kill. Knows no model and no data.

Any module with ``loss(batch)`` and ``scope(batch)`` is trained; the scope contains forward *and* backward. It is
trained on row numbers, which ``gather`` turns into batches. Nothing but ``validate`` selects: give it validation samples.

Going on after a kill gives the same result to the last digit (on the same machine with as many threads and processes;
on a GPU as far as its kernels are deterministic), because a step is a function of weights, moments and its number: the
order of rows and the noise of dropout come from streams named after the step, so no generator has to be remembered.
"""

import dataclasses
import hashlib
import math
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from jaxtyping import Int, Int64
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from lifelora.artefacts import key_of, write_atomically
from lifelora.errors import ConfigError, LifeloraError
from lifelora.progress import Progress
from lifelora.seeds import derive
from lifelora.tensors import to_device
from lifelora.training import parallel
from lifelora.training.accelerator import accelerator_for
from lifelora.training.checkpoint import CHECKPOINT, MODEL, Checkpoint, Learnt
from lifelora.training.config import TrainingConfig
from lifelora.training.curve import HISTORY, Evaluation, History, Point
from lifelora.training.optimiser import learning_rate, make_optimiser
from lifelora.training.order import Order

POINTS = 200
"""About as many points has a training curve, each the mean loss of the steps since the one before."""


class DivergenceError(LifeloraError, ArithmeticError):
    """A loss, or the metric that selects, is not a finite number."""


class Trainable(Protocol):
    """What the loop asks of a module."""

    def loss(self, batch: Any) -> Tensor: ...
    def scope(self, batch: Any) -> AbstractContextManager[Any]: ...


class LossAsForward(nn.Module):
    """Makes ``loss`` the forward, which is what autocast and data parallelism hook into."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Any) -> Tensor:
        return cast(Trainable, self.module).loss(batch)


@runtime_checkable
class Scheduled(Protocol):
    """A ``gather`` that changes as training goes on; it may depend on nothing but its place, or going on would differ."""

    def at(self, step: int, planned: int, part: int) -> Callable[[Int64[np.ndarray, "B"]], Any]:
        """The ``gather`` of a micro-batch: the step, counted from 0, of so many planned, and which of the step's parts it is,
        counted over all processes."""


def _finite(losses: list[Tensor], history: History) -> list[float]:
    """The losses of the last steps as numbers (the only place that waits for the device)."""
    values: list[float] = torch.stack(losses).tolist() if losses else []
    for step, value in enumerate(values, start=history.steps - len(values) + 1):
        if not math.isfinite(value):
            raise DivergenceError(
                f"the loss of step {step} is {value}: lower training.learning_rate, set training.clip (1.0), lengthen "
                "training.warmup, or use training.precision = 'bf16' or 'fp32' instead of 'fp16'. The last checkpoint is from "
                "before that step."
            )
    return values


def _note(history: History, config: TrainingConfig) -> str:
    select = config.select.removeprefix("-")
    return f", best {select} {history.evaluations[history.best].metrics[select]:.4f}" if history.evaluations else ""


def fit(
    module: nn.Module,
    rows_N: Int64[np.ndarray, "N"],
    gather: Callable[[Int64[np.ndarray, "B"]], Any] | Scheduled,
    validate: Callable[[], dict[str, float]],
    config: TrainingConfig,
    folder: Path,
    seed: int,
    *,
    together_N: Int[np.ndarray, "_"] | None = None,
    name: str = "training",
    device: torch.device | str = "auto",
    checkpoint_seconds: float = 30.0,
    progress: bool = True,
) -> History:
    """Train ``module`` in place; the weights of the best evaluation end up in it and in ``folder``.

    ``folder`` gets ``model.safetensors`` (trained parameters and buffers), ``history.json`` and ``tensorboard/``. One
    with a checkpoint is gone on with, a finished one only loaded, another training's refused.

    Of ``rows_N``, those with one number in ``together_N`` stay together in an epoch's order (``Order``), so that ``gather`` can
    read once what they share.

    ``validate`` is called in eval mode without gradients, by every process; the first one's metrics count. The options
    after ``together_N`` do not change the result. The module is left on the device, in eval mode.
    """
    if len(rows_N) == 0:
        raise ConfigError(f"{name}: there are no samples to train on. The training part of the data is empty.")
    learnt = Learnt(module)
    shapes = {tensor_name: [*tensor.shape, str(tensor.dtype)] for tensor_name, tensor in learnt.tensors.items()}
    digest = hashlib.sha256(np.asarray(rows_N, np.int64).tobytes()).hexdigest()
    told = [config.model_dump(mode="json"), seed, digest, shapes]
    if together_N is not None:
        told.append(hashlib.sha256(np.asarray(together_N, np.int64).tobytes()).hexdigest())
    key = key_of(told)
    order = Order(rows_N, config.batch_size, seed, together_N)
    accelerator = accelerator_for(config.precision, device)
    module.to(accelerator.device)
    folder = Path(parallel.agreed(str(folder)))  # all go on from what the first process, which alone writes, has there
    finished = folder / HISTORY
    if finished.exists():
        history = History.read(finished.read_bytes(), finished, key)
    else:
        devices = [] if accelerator.device.type == "cpu" else [accelerator.device]
        with torch.random.fork_rng(devices, device_type=accelerator.device.type):
            loop = _Loop(module, learnt, order, gather, validate, config, folder, seed, key, accelerator)
            history = loop.run(name, checkpoint_seconds, progress and accelerator.is_main_process)
    accelerator.wait_for_everyone()
    learnt.read(folder / MODEL)
    module.eval()
    if accelerator.is_main_process:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return history


@dataclasses.dataclass
class _Loop:
    module: nn.Module
    learnt: Learnt
    order: Order
    gather: Callable[[np.ndarray], Any] | Scheduled
    validate: Callable[[], dict[str, float]]
    config: TrainingConfig
    folder: Path
    seed: int
    key: str
    accelerator: Accelerator

    def run(self, name: str, checkpoint_seconds: float, progress: bool) -> History:
        config, accelerator, main = self.config, self.accelerator, self.accelerator.is_main_process
        length, size, n = len(self.order.rows_N), config.batch_size, self.order.steps
        planned = min(config.epochs * n, config.max_steps or sys.maxsize)
        span = planned if config.schedule_epochs is None else config.schedule_epochs * n
        history = History(key=self.key, steps_per_epoch=n, planned=planned)
        # Not wrapped by Accelerate, whose step looks for packages on disk each time; update() does the scaling.
        # Fused: one kernel per step. Under fp16 the plain one, which the gradient scaler leaves out after an overflow.
        self.optimizer = make_optimiser(self.learnt, config, fused=config.precision != "fp16")
        self.forward = accelerator.prepare(LossAsForward(self.module))
        checkpoint = Checkpoint(self.folder / CHECKPOINT, self.learnt, self.optimizer, accelerator.scaler)
        losses: list[Tensor] = []  # of the steps since the last point of the curve, still on the device
        if checkpoint.path.exists():
            history = History.read(checkpoint.progress(), checkpoint.path, self.key)
            losses = checkpoint.restore()
        accelerator.wait_for_everyone()
        if main:
            checkpoint.clear_torn()
        every = max(1, planned // POINTS)
        done, total = (steps // n * length + steps % n * size for steps in (history.steps, planned))
        folder = str(self.folder / "tensorboard")
        saved = clock = time.monotonic()
        counted = 0
        self.module.train()
        with (
            Progress(name, total, done=done, enabled=progress) as ticker,
            SummaryWriter(folder, purge_step=history.steps + 1) if main else nullcontext() as board,
        ):
            while history.stopped is None:
                place, places_B = history.steps % n, self.order.step(history.steps)
                rate = learning_rate(config, history.steps, span)
                losses.append(self.update(places_B, history.steps, planned, rate))
                history.steps += 1
                counted += len(places_B)
                ticker.advance(len(places_B))

                # k evaluations spread evenly over an epoch, the last at its end; and one after the last step of all.
                k, last = config.evaluations_per_epoch, history.steps == planned
                due = last or (place + 1) * k // n > place * k // n
                if due or history.steps % every == 0:
                    values = _finite(losses, history)
                    losses.clear()
                    point = Point(step=history.steps, loss=math.fsum(values) / len(values), learning_rate=rate)
                    history.training.append(point)
                    ticker.advance(0, f"loss {point.loss:.4f}" + _note(history, config))
                    if board:
                        board.add_scalar("train/loss", point.loss, point.step)
                        board.add_scalar("train/learning_rate", rate, point.step)
                        board.add_scalar("train/samples_per_second", counted / (time.monotonic() - clock), point.step)
                    clock, counted = time.monotonic(), 0
                if due:
                    if self.evaluate(history) and main:
                        checkpoint.best = self.learnt.copy()
                    since = len(history.evaluations) - 1 - history.best
                    if config.patience is not None and since >= config.patience:
                        history.stopped = "patience"
                    elif last:
                        history.stopped = "end"
                    if board:
                        for metric, value in history.evaluations[-1].metrics.items():
                            board.add_scalar(f"valid/{metric}", value, history.steps)
                    clock = time.monotonic()
                if main and (due or time.monotonic() - saved >= checkpoint_seconds):
                    _finite(losses, history)  # never go on from broken weights
                    checkpoint.write(history.model_dump_json(), losses)
                    saved = time.monotonic()
        if main:
            self.learnt.write(self.folder / MODEL, checkpoint.best)
            write_atomically(self.folder / HISTORY, history.model_dump_json(indent=1))
        return history

    def update(self, places_B: np.ndarray, step: int, planned: int, rate: float) -> Tensor:
        """One optimiser step on this process's share of a step's rows; the mean loss over all of them, before the step."""
        accelerator, device = self.accelerator, self.accelerator.device
        world, rank = accelerator.num_processes, accelerator.process_index
        noise = derive(self.seed, "noise", step, rank)
        torch.default_generator.manual_seed(noise)
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(noise)
        own = self.order.share(places_B, rank, world)
        micro = -(-self.config.batch_size // (world * self.config.accumulation))
        parts = self.order.parts(own, micro) or [places_B[:1]]
        means: list[Tensor] = []
        self.optimizer.zero_grad()
        for number, part in enumerate(parts):
            # Mean over B = sum of part / B · mean over the part; a process left without rows joins in with weight 0.
            weight = len(part) / len(places_B) if len(own) else 0.0
            gather = self.gather.at(step, planned, number * world + rank) if isinstance(self.gather, Scheduled) else self.gather
            batch = to_device(gather(self.order.rows_N[part]), device)
            with (
                accelerator.no_sync(self.forward) if number + 1 < len(parts) else nullcontext(),
                cast(Trainable, self.module).scope(batch),
            ):
                loss = self.forward(batch)
                accelerator.backward(loss * (weight * world))  # data parallelism divides by the number of processes
            means.append(loss.detach() * weight)
        scaler = accelerator.scaler  # under fp16 only
        if scaler:
            scaler.unscale_(self.optimizer)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self.learnt.parameters.values(), self.config.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        if scaler:
            scaler.step(self.optimizer)  # leaves the step out after an overflow
            scaler.update()
        else:
            self.optimizer.step()
        mean = means[0] if len(means) == 1 else torch.stack(means).sum()
        return cast(Tensor, accelerator.reduce(mean)) if world > 1 else mean

    def evaluate(self, history: History) -> bool:
        """Append an evaluation; whether it is the best so far. Every process comes to the first one's verdict."""
        self.module.eval()
        with torch.no_grad():
            metrics = {name: float(value) for name, value in sorted(self.validate().items())}
        self.module.train()
        if self.accelerator.num_processes > 1:
            figures = torch.tensor(list(metrics.values()), dtype=torch.float64, device=self.accelerator.device)
            metrics = dict(zip(metrics, broadcast(figures).tolist(), strict=True))
        select = self.config.select.removeprefix("-")
        if select not in metrics:
            raise ConfigError(
                f"select = '{self.config.select}' is none of the validation metrics "
                f"{', '.join(metrics)} (with a minus in front where lower is better)."
            )
        if not math.isfinite(metrics[select]):
            raise DivergenceError(
                f"validation {select} after step {history.steps} is {metrics[select]}, none can be "
                "best: look at the validation samples (one class only?) and at the learning rate."
            )
        sign = -1.0 if self.config.select.startswith("-") else 1.0
        history.evaluations.append(Evaluation(step=history.steps, metrics=metrics))
        if history.best >= 0 and sign * metrics[select] <= sign * history.evaluations[history.best].metrics[select]:
            return False
        history.best = len(history.evaluations) - 1
        return True
