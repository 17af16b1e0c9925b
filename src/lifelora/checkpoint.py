"""What a training changes, as named tensors, and the file an interrupted one goes on from. Knows no loop and no model.

One safetensors file holds the trained parameters and buffers, the same at the best evaluation, the optimiser's moments
and the last losses; its metadata holds the caller's progress as text. It is replaced atomically, so a kill leaves the
old file or the new one; and it carries a hash of all that, so that a damaged one is never gone on from.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lifelora.artefacts import clear_torn, write_atomically
from lifelora.errors import ArtefactError, ConfigError


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
                raise ArtefactError(f"{path} holds {came} for '{name}', which is {[*tensor.shape]} here; it is of another model. "
                                    f"Move {path.parent} away, and train again.")
        self.load(tensors)


def write_tensors(path: Path, tensors: dict[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """Tensors and notes as a safetensors file with a hash of both, whole or not at all."""
    kept = {"notes": dict(notes or {}), "sha256": _hash(tensors, notes or {})}
    # One entry: safetensors writes several in any order, and equal tensors shall give equal files.
    write_atomically(path, safetensors.torch.save(tensors, {"lifelora": json.dumps(kept, sort_keys=True)}))


def read_tensors(path: Path, mend: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What ``write_tensors`` wrote; ArtefactError for a file that is missing or damaged, and for numbers that are not finite."""
    mend = mend or f"move {path.parent} away, and `lifelora run` makes it again"
    try:
        with safe_open(path, framework="pt") as file:
            kept = json.loads((file.metadata() or {}).get("lifelora", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ArtefactError(f"{path} does not exist; {mend}.") from None
    except (IsADirectoryError, SafetensorError, ValueError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); {mend}.") from error
    notes = kept.get("notes", {})
    if kept.get("sha256") != _hash(tensors, notes):
        raise ArtefactError(f"{path} is damaged (it is not what was written); {mend}.")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ArtefactError(f"{path} holds numbers that are not finite in '{name}'; {mend}.")
    return tensors, notes


def _hash(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Checkpoint:
    """Writes and restores weights, best weights, the moments of ``optimizer`` and the gradient scaler, if any."""

    def __init__(self, path: Path, learnt: Learnt, optimizer: torch.optim.Optimizer,
                 scaler: torch.amp.GradScaler | None) -> None:
        self.path, self.learnt, self.optimizer, self.scaler = path, learnt, optimizer, scaler
        self.best: dict[str, Tensor] = {}
        names = {id(p): name for name, p in learnt.parameters.items()}
        # The order of PyTorch's own optimiser state: position in the groups.
        self._optimized = [(names[id(p)], p) for group in optimizer.param_groups for p in group["params"]]

    def write(self, progress: str, losses: list[Tensor]) -> None:
        """Everything as it is now, with the losses that ``progress`` does not contain yet."""
        tensors = {f"module:{name}": tensor for name, tensor in self.learnt.copy().items()}
        tensors |= {f"best:{name}": tensor for name, tensor in self.best.items()}
        tensors |= {f"{moment}:{name}": value.detach().cpu() for name, p in self._optimized
                    for moment, value in self.optimizer.state.get(p, {}).items()}
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
        state = {index: {moment: named[name] for moment, named in parts.items() if name in named}
                 for index, (name, _) in enumerate(self._optimized)}
        self.optimizer.load_state_dict({"state": {index: moments for index, moments in state.items() if moments},
                                        "param_groups": self.optimizer.state_dict()["param_groups"]})
        if self.scaler:
            self.scaler.load_state_dict(json.loads(metadata["scaler"]))
        device = self._optimized[0][1].device
        return list(pending["losses"].to(device)) if pending else []

    def _read(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        return read_tensors(self.path, "delete it to train from the start")

    def clear_torn(self) -> None:
        """Remove half-written files that a kill left beside the checkpoint."""
        clear_torn(self.path.parent)
