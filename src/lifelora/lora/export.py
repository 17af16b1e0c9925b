"""One user's adapter as an ordinary LoRA, in PEFT's file format. Knows that format, but does not need PEFT.

For one u, W x + s·B·C(u)·A x is a LoRA with the matrices B·C(u) and A: PEFT, vLLM and LoRAX load it like any other. Where
C(u) = left · right has a smaller rank than A has rows (RecLoRA's merged weights), it is the LoRA B·left and right·A.
"""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from lifelora.artefacts import write_atomically
from lifelora.errors import ConfigError
from lifelora.lora.adapters import PREFIX, Adapters
from lifelora.lora.layer import is_conv1d
from lifelora.lora.structure import Structure

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
STACKED = ("gate_up_proj", "down_proj")
"Names of the parameters in which transformers stacks the routed experts of a mixture."
EXPERTS = ("gate_proj", "up_proj", "down_proj", "w1", "w2", "w3", "gate")
"Names that PEFT then takes for the experts' own, wherever they stand (huggingface/peft#3711)."


@torch.no_grad()
def peft_adapter(
    adapters: Adapters,
    u_1D: Float[Tensor, "1 D"] | None,
    base_model: str = "",
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(adapter_config, tensors) of one user, by PEFT's names; ``base_model`` is the backbone's folder or hub name.

    ``u_1D`` may be None only if the coupling needs no user. Raises ConfigError if PEFT would ignore some of the layers.
    """
    lost = lost_in_peft(adapters)
    if lost:
        words = ", ".join(sorted({name.rpartition(".")[2] for name in lost}))
        raise ConfigError(
            f"{len(lost)} of {len(adapters.layers)} adapted layers ({lost[0]}, …) would be lost. This model stacks its routed "
            f"experts, so PEFT takes {words} for layers of the experts and ignores the dense and the shared layers. Export a "
            "system whose targets are attention layers, or use lifelora's own save and load, which keep all layers."
        )
    C = _coupling_of_one(adapters, u_1D)
    tensors: dict[str, Tensor] = {}
    rank = adapters.coupling.config.rows
    for index, (name, layer) in enumerate(adapters.layers):
        A_RI, B_OR = layer.A_PI.detach(), layer.B_OQ.detach()
        if C is not None:
            left_QR, right_RP = C.split(index, 0)
            B_OR = (B_OR.double() @ left_QR.to(B_OR.device).double()).to(B_OR.dtype)
            A_RI = A_RI if right_RP is None else (right_RP.to(A_RI.device).double() @ A_RI.double()).to(A_RI.dtype)
        rank = len(A_RI)
        tensors[f"{PREFIX}{name}.lora_A.weight"] = A_RI.clone().contiguous().cpu()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = B_OR.clone().contiguous().cpu()
    alpha = adapters.coupling.config.scaling * rank  # PEFT scales by lora_alpha / r
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": target_modules(adapters),
        "fan_in_fan_out": all(is_conv1d(layer.base) for _, layer in adapters.layers),
    }, tensors


def write_peft_adapter(
    folder: Path,
    adapters: Adapters,
    u_1D: Float[Tensor, "1 D"] | None = None,
    base_model: str = "",
) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``: what ``PeftModel.from_pretrained`` loads."""
    write_files(folder, *peft_adapter(adapters, u_1D, base_model))


def packed(config: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, bytes]:
    """The two files of an adapter by name, the configuration last; equal adapters give equal bytes."""
    written = json.dumps(config, indent=2, sort_keys=True).encode()
    return {TENSORS: safetensors.torch.save(tensors, {"format": "pt"}), CONFIG: written}


def write_files(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """The two files of an adapter; the configuration last, so that it is there only when all is."""
    for name, content in packed(config, tensors).items():
        write_atomically(folder / name, content)


def lost_in_peft(adapters: Adapters) -> list[str]:
    """Adapted layers that PEFT would silently ignore: dense and shared ones, in a model that stacks its routed experts."""
    stacked = any(p.ndim == 3 and name.rpartition(".")[2] in STACKED for name, p in adapters.model.named_parameters())
    return [name for name, _ in adapters.layers if stacked and name.rpartition(".")[2] in EXPERTS]


def target_modules(adapters: Adapters) -> list[str]:
    """The last words of the names if they mean exactly the adapted layers, as is usual; else the full names."""
    names = [name for name, _ in adapters.layers]
    words = {name.rpartition(".")[2] for name in names}
    meant = [name for name, _ in adapters.model.named_modules() if name.rpartition(".")[2] in words]
    return sorted(words) if meant == names else sorted(names)


def _coupling_of_one(adapters: Adapters, u_1D: Tensor | None) -> Structure | None:
    if adapters.coupling.config.needs_user and (u_1D is None or u_1D.shape[0] != 1):
        came = "none" if u_1D is None else f"{u_1D.shape[0]} rows"
        raise ConfigError(f"a personal adapter is exported for one user: give one row of u ({came} came).")
    training = adapters.coupling.training
    C: Structure | None = adapters.coupling.eval()(u_1D)  # without the dropout of gates
    adapters.coupling.train(training)
    return C
