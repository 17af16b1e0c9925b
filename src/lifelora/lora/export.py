"""One person's adapter as an ordinary LoRA, in PEFT's file format. Knows that format, but does not need PEFT.

For one u, W x + s·B·C(u)·A x is a LoRA with the matrices B·C(u) and A: PEFT, vLLM and LoRAX load it like any other.
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
from lifelora.lora.inject import Adapters
from lifelora.lora.layer import PersonalLoRALinear, is_conv1d


@torch.no_grad()
def peft_adapter(
    adapters: Adapters, u_1D: Float[Tensor, "1 D"] | None, base_model: str = "",
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """(adapter_config, tensors) of one person, by PEFT's names; ``base_model`` is the backbone's folder or hub name.

    ``u_1D`` may be None only when the coupling is the same for everybody.
    """
    C_SQP = _couplings(adapters, u_1D)
    rank = adapters.coupling.rows
    alpha = adapters.coupling.scaling * rank  # PEFT scales by lora_alpha / r
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": base_model, "inference_mode": True,
        "r": rank, "lora_alpha": int(alpha) if alpha == int(alpha) else alpha, "lora_dropout": 0.0, "bias": "none",
        "target_modules": _target_modules(adapters),
        "fan_in_fan_out": all(is_conv1d(layer.base) for _, layer in adapters.layers),
    }
    tensors: dict[str, Tensor] = {}
    for index, (name, layer) in enumerate(adapters.layers):
        B_OP = layer.B_OQ if C_SQP is None else layer.B_OQ @ C_SQP[index].to(layer.B_OQ)
        tensors[f"base_model.model.{name}.lora_A.weight"] = layer.A_PI.detach().clone().cpu()
        tensors[f"base_model.model.{name}.lora_B.weight"] = B_OP.detach().clone().contiguous().cpu()
    return config, tensors


def write_peft_adapter(
    folder: Path, adapters: Adapters, u_1D: Float[Tensor, "1 D"] | None, base_model: str = "",
) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors``: what ``PeftModel.from_pretrained`` loads."""
    config, tensors = peft_adapter(adapters, u_1D, base_model)
    write_atomically(folder / "adapter_model.safetensors", safetensors.torch.save(tensors, {"format": "pt"}))
    write_atomically(folder / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True))


@torch.no_grad()
def merged_weight(layer: PersonalLoRALinear, C_QP: Float[Tensor, "Q P"] | None) -> Tensor:
    """W + s·B·C·A, as O x I, or as I x O where the base (Conv1D) keeps it so; None stands for C = I."""
    weight = layer.base.weight
    if not isinstance(weight, Tensor) or not weight.is_floating_point() or weight.ndim != 2:
        raise ConfigError(
            f"layer '{layer.name}' has a quantised base ({type(layer.base).__name__}), into which nothing can be "
            "merged; load the backbone in bf16 or fp32, or export the adapter instead."
        )
    B_OP = layer.B_OQ if C_QP is None else layer.B_OQ @ C_QP.to(layer.B_OQ)
    delta_OI = layer.scaling * (B_OP @ layer.A_PI)
    delta = delta_OI.T if is_conv1d(layer.base) else delta_OI
    return (weight + delta).to(weight.dtype)


def _couplings(adapters: Adapters, u_1D: Tensor | None) -> Tensor | None:
    if not adapters.coupling.needs_user:
        return None
    if u_1D is None or u_1D.shape[0] != 1:
        came = "none" if u_1D is None else f"{u_1D.shape[0]} rows"
        raise ConfigError(f"a personal adapter is exported for one person: give one row of u ({came} came).")
    C_S1QP: Tensor = adapters.coupling(u_1D)
    return C_S1QP[:, 0]


def _target_modules(adapters: Adapters) -> list[str]:
    """The last words of the names where they mean exactly the adapted layers, as people write them; else full names."""
    names = [name for name, _ in adapters.layers]
    words = {name.rpartition(".")[2] for name in names}
    meant = [name for name, _ in adapters.model.named_modules() if name.rpartition(".")[2] in words]
    return sorted(words) if meant == names else sorted(names)
