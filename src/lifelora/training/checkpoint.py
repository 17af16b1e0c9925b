"""What a training changes, as named tensors, and the file an interrupted one goes on from. Knows no loop and no model.

One safetensors file holds the trained parameters and buffers, the same at the best evaluation, the optimiser's moments
and the last losses; its metadata holds the caller's progress as text. It is replaced atomically, so a kill leaves the
old file or the new one; and it carries a hash of all that, so that a damaged one is never gone on from.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from lifelora.artefacts import clear_torn
from lifelora.errors import ArtefactError, ConfigError
from lifelora.tensors import read_tensors, write_tensors

CHECKPOINT, MODEL = "checkpoint.safetensors", "model.safetensors"


class Learnt:
    """The trainable parameters of a module and its persistent buffers; frozen parameters are not its business."""

    def __init__(self, module: nn.Module) -> None:
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise ConfigError(f"{type(module).__name__} has no parameter with requires_grad: nothing to train.")
        persistent = module.state_dict().keys()
        self.tensors = self.parameters | {name: b for name, b in module.named_buffers() if name in persistent}

    def copy(self) -> dict[str, Tensor]:
        """All of it as it is now, on the CPU."""
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in self.tensors.items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put a copy back into the module."""
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor.copy_(tensors[name])

    def write(self, path: Path, tensors: dict[str, Tensor]) -> None:
        """A copy as a safetensors file."""
        write_tensors(path, tensors)

    def read(self, path: Path) -> None:
        """Put a file's tensors into the module; ArtefactError where it lacks one, has one of another shape, or is damaged."""
        tensors, _ = read_tensors(path)
        for name, tensor in self.tensors.items():
            if name not in tensors or tensors[name].shape != tensor.shape:
                came = [*tensors[name].shape] if name in tensors else "nothing"
                raise ArtefactError(
                    f"{path} holds {came} for '{name}', which is {[*tensor.shape]} here; it is of another model. "
                    f"Move {path.parent} away, and train again."
                )
        self.load(tensors)


class Checkpoint:
    """Writes and restores weights, best weights, the moments of ``optimizer`` and the gradient scaler, if any."""

    def __init__(self, path: Path, learnt: Learnt, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None) -> None:
        self.path, self.learnt, self.optimizer, self.scaler = path, learnt, optimizer, scaler
        self.best: dict[str, Tensor] = {}
        names = {id(p): name for name, p in learnt.parameters.items()}
        # The order of PyTorch's own optimiser state: position in the groups.
        self._optimized = [(names[id(p)], p) for group in optimizer.param_groups for p in group["params"]]

    def write(self, progress: str, losses: list[Tensor]) -> None:
        """Everything as it is now, with the losses that ``progress`` does not contain yet."""
        tensors = {f"module:{name}": tensor for name, tensor in self.learnt.copy().items()}
        tensors |= {f"best:{name}": tensor for name, tensor in self.best.items()}
        tensors |= {
            f"{moment}:{name}": value.detach().cpu()
            for name, p in self._optimized
            for moment, value in self.optimizer.state.get(p, {}).items()
        }
        if losses:
            tensors["loop:losses"] = torch.stack(losses).cpu()
        metadata = {"progress": progress, "scaler": json.dumps(self.scaler.state_dict() if self.scaler else {})}
        write_tensors(self.path, tensors, metadata)

    def progress(self) -> str:
        """The progress that was written."""
        return self._read()[1]["progress"]

    def restore(self) -> list[Tensor]:
        """Put everything back where it was; the pending losses."""
        tensors, metadata = self._read()
        parts: dict[str, dict[str, Tensor]] = {}
        for full, tensor in tensors.items():
            part, name = full.split(":", 1)
            parts.setdefault(part, {})[name] = tensor
        self.learnt.load(parts.pop("module"))
        self.best = parts.pop("best", {})
        pending = parts.pop("loop", {})
        # What is left are the moments; a parameter that never had a gradient has none.
        state = {
            index: {moment: named[name] for moment, named in parts.items() if name in named}
            for index, (name, _) in enumerate(self._optimized)
        }
        self.optimizer.load_state_dict(
            {
                "state": {index: moments for index, moments in state.items() if moments},
                "param_groups": self.optimizer.state_dict()["param_groups"],
            }
        )
        if self.scaler:
            self.scaler.load_state_dict(json.loads(metadata["scaler"]))
        device = self._optimized[0][1].device
        return list(pending["losses"].to(device)) if pending else []

    def _read(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        return read_tensors(self.path, "delete it to train from the start")

    def clear_torn(self) -> None:
        """Remove half-written files that a kill left beside the checkpoint."""
        clear_torn(self.path.parent)
