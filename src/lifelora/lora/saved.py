"""Adapters as files, and an ordinary LoRA as the start of a personal one. Knows PEFT's format, but does not need PEFT.

A saved folder holds ``adapter_config.json`` and ``adapter_model.safetensors``, whatever the coupling; A and B have PEFT's
names. With the identity coupling it *is* an adapter of PEFT. With another one PEFT refuses its kind, ``LIFELORA``: without C(u)
it would give wrong answers. The kind is the same where PEFT would lose layers (``export.lost_in_peft``).
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from lifelora import foreign
from lifelora.errors import ArtefactError, ConfigError
from lifelora.lora.adapters import PREFIX, Adaptation, Adapters
from lifelora.lora.coupling import Identity
from lifelora.lora.export import CONFIG, TENSORS, lost_in_peft, target_modules, write_files, write_peft_adapter
from lifelora.lora.inject import personalise

KIND = "LIFELORA"
FORMAT = 1
LARGEST = 1e9
"No alpha is greater: what is would make infinity of every output."
NAME = re.compile(re.escape(PREFIX) + r"(?P<layer>.+)\.lora_(?P<part>[AB])(\.default)?\.weight")
# What makes a LoRA another function than W x + s·B A x; each is refused unless it has its neutral value.
STRANGE = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "use_qalora",
    "alora_invocation_tokens",
    "target_parameters",
    "arrow_config",
)
# The starts of A and B that leave W as it is. PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA and what may come take their start out of W.
STARTS = (True, False, None, "true", "false", "gaussian", "eva", "orthogonal", "mica")


@dataclass(frozen=True)
class PlainLoRA:
    """What a folder of PEFT holds: s and, by layer, A (R x I) and B (O x R)."""

    rank: int
    scaling: float
    dropout: float
    base_model: str
    A: dict[str, Tensor]
    B: dict[str, Tensor]


def save(adapters: Adapters, folder: str | Path, base_model: str = "") -> None:
    """Write the adapters and their coupling; ``load`` gives them back. ``base_model`` is the backbone's folder or name."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = adapters.adaptation.coupling
    if isinstance(config, Identity.Config) and not lost_in_peft(adapters):
        write_peft_adapter(folder, adapters, None, base_model)
        return
    write_files(
        folder,
        {
            "peft_type": KIND,
            "format": FORMAT,
            "base_model_name_or_path": base_model,
            "r": config.rank,
            "target_modules": target_modules(adapters),
            "user_width": adapters.user_width,
            "adaptation": adapters.adaptation.model_dump(mode="json", include=set(Adaptation.model_fields)),
        },
        {name: tensor.cpu().contiguous() for name, tensor in adapters.state().items()},
    )


def load(model: nn.Module, folder: str | Path) -> Adapters:
    """Personalise ``model`` as a saved folder, or an ordinary LoRA of PEFT, says. Raises ArtefactError for other files."""
    folder = Path(folder)
    config, tensors = _files(folder)
    if config.get("peft_type") == "LORA":
        plain = read_peft(folder)
        coupling = Identity.Config(rank=plain.rank, alpha=plain.scaling * plain.rank)
        adapters = personalise(
            model,
            Adaptation(coupling=coupling, targets=tuple("re:" + re.escape(name) for name in plain.A), dropout=plain.dropout),
        )
        start_from(adapters, folder)
        return adapters
    if config.get("peft_type") != KIND or config.get("format") != FORMAT:
        raise ArtefactError(
            f"{folder / CONFIG} is of kind {config.get('peft_type')!r}, format {config.get('format')!r}; "
            f"this lifelora reads 'LORA', and '{KIND}' in format {FORMAT}."
        )
    adaptation = _adaptation(folder / CONFIG, config)
    user_width = config.get("user_width")
    if user_width is not None and (type(user_width) is not int or user_width < 1):
        raise ArtefactError(f"{folder / CONFIG} has user_width = {foreign.shown(user_width)}; it must be 1 or more.")
    try:
        adapters = personalise(model, adaptation, user_width=user_width)
    except (ConfigError, ArtefactError):
        raise
    except (TypeError, OverflowError, MemoryError, RuntimeError) as error:  # PyTorch's, for sizes that no tensor can have
        raise ArtefactError(f"{folder / CONFIG} asks for adapters of impossible sizes: {str(error)[:200]}.") from error
    try:
        adapters.load_state(tensors)
    except ArtefactError:
        adapters.unload()
        raise
    return adapters


def read_peft(folder: str | Path) -> PlainLoRA:
    """An ordinary LoRA as PEFT saves it; ArtefactError for anything else."""
    folder = Path(folder)
    config, tensors = _files(folder)
    path = folder / CONFIG
    if config.get("peft_type") == KIND and config.get("format") == FORMAT:
        config = _as_lora(path, config)
    if config.get("peft_type") != "LORA":
        raise ArtefactError(f"{path} is of kind {config.get('peft_type')!r}; only an ordinary LoRA ('LORA') can be read.")
    start = config.get("init_lora_weights", True)
    if (start.lower() if isinstance(start, str) else start) not in STARTS:
        raise ArtefactError(
            f"{path} has init_lora_weights = {foreign.shown(start)}: the start of such an adapter was subtracted from W, so on W "
            "itself it is another function. Save it again with peft: save_pretrained(…, "
            "path_initial_model_for_weight_conversion=…) makes an ordinary LoRA of it. Or merge it into the backbone."
        )
    strange = [key for key in STRANGE if config.get(key)] + (["bias"] if config.get("bias", "none") != "none" else [])
    if strange:
        raise ArtefactError(
            f"{path} sets {', '.join(strange)}, which an ordinary LoRA (W x + s·B·A x) does not have. Train "
            "one without it, or merge it into the backbone first."
        )
    A: dict[str, Tensor] = {}
    B: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = NAME.fullmatch(name)
        if match is None:
            raise ArtefactError(f"{folder / TENSORS} holds '{name}', which is neither lora_A nor lora_B of a linear layer.")
        (A if match["part"] == "A" else B)[match["layer"]] = tensor
    rank = config.get("r")
    if type(rank) is not int or rank < 1:
        raise ArtefactError(f"{path} has r = {foreign.shown(rank)}; a rank is 1 or more.")
    wrong = sorted(
        name
        for name in {*A, *B}
        if name not in A or name not in B or A[name].ndim != 2 or len(A[name]) != rank or tuple(B[name].shape[1:]) != (rank,)
    )
    if wrong or not A:
        raise ArtefactError(
            f"{folder / TENSORS} does not hold an A and a B of rank {rank} for each layer: "
            f"{', '.join(wrong[:8]) or 'there are none'}."
        )
    alpha = _number(path, "lora_alpha", config.get("lora_alpha", 8))
    dropout = _number(path, "lora_dropout", config.get("lora_dropout") or 0)
    if alpha <= 0 or not 0 <= dropout < 1:
        raise ArtefactError(
            f"{path} has lora_alpha = {alpha:g} and lora_dropout = {dropout:g}; lora_alpha must be above 0, and "
            "lora_dropout at least 0 and below 1."
        )
    scaling = alpha / (rank**0.5 if config.get("use_rslora") else rank)
    return PlainLoRA(rank, scaling, dropout, str(config.get("base_model_name_or_path") or ""), A, B)


def _as_lora(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """A saved folder's settings in PEFT's words, if its coupling is the identity (and PEFT would have lost layers)."""
    adaptation = _adaptation(path, config)
    if not isinstance(adaptation.coupling, Identity.Config):
        return config
    return {
        "peft_type": "LORA",
        "r": adaptation.coupling.rank,
        "lora_alpha": adaptation.coupling.alpha,
        "lora_dropout": adaptation.dropout,
        "base_model_name_or_path": config.get("base_model_name_or_path"),
    }


def _adaptation(path: Path, config: dict[str, Any]) -> Adaptation:
    try:
        return Adaptation.model_validate(config.get("adaptation"))
    except ValidationError as error:
        raise ArtefactError(f"{path} has settings that this version of lifelora does not know: {error}") from error


@torch.no_grad()
def start_from(adapters: Adapters, folder: str | Path) -> None:
    """Make an ordinary LoRA the starting A and B; ConfigError or ArtefactError, with nothing changed, if it does not fit.

    Couplings of several A or B (meta, hydra) get as many copies. Together they are that LoRA, whichever user is in scope. So it
    is with static and full (``start="identity"``), and with experts if all have the same weight.
    """
    plain, config = read_peft(folder), adapters.adaptation.coupling
    if plain.rank != config.rank:
        raise ConfigError(
            f"the LoRA in {folder} has rank {plain.rank}, the coupling {config.rank}; set coupling.rank = {plain.rank}."
        )
    ours, theirs = {name for name, _ in adapters.layers}, set(plain.A)
    if ours != theirs:
        raise ConfigError(
            f"the LoRA in {folder} is on other layers: only there {_some(theirs - ours)}; only here {_some(ours - theirs)}. "
            "Choose the same targets."
        )
    for name, layer in adapters.layers:
        shapes = (layer.inputs, layer.outputs)
        if shapes != (plain.A[name].shape[1], len(plain.B[name])):
            raise ConfigError(
                f"the LoRA in {folder} was made for another backbone: its layer '{name}' has "
                f"{plain.A[name].shape[1]} inputs and {len(plain.B[name])} outputs, here it is {shapes}."
            )
    factor = plain.scaling / (config.scaling * config.even)
    for name, layer in adapters.layers:
        layer.A_PI.copy_(plain.A[name].repeat(config.rows // plain.rank, 1))
        layer.B_OQ.copy_(plain.B[name].repeat(1, config.columns // plain.rank) * factor)


def tensors(folder: Path) -> dict[str, Tensor]:
    """What ``Adapters.load_state`` takes, of a saved folder."""
    return _files(folder)[1]


def _files(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not (folder / CONFIG).is_file() or not (folder / TENSORS).is_file():
        pickles = " (an adapter_model.bin is a pickle, which is never read)" * (folder / "adapter_model.bin").exists()
        raise ArtefactError(f"'{folder}' holds no adapter: it needs {CONFIG} and {TENSORS}{pickles}.")
    try:
        config = foreign.json_value(foreign.text(folder / CONFIG))
    except foreign.Unreadable as error:
        raise ArtefactError(f"{folder / CONFIG} is damaged: {error}.") from error
    if not isinstance(config, dict):
        raise ArtefactError(f"{folder / CONFIG} does not hold a JSON object.")
    try:
        tensors = safetensors.torch.load_file(folder / TENSORS)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError, SafetensorError) as error:
        raise ArtefactError(f"{folder / TENSORS} is damaged: {error}.") from error
    if odd := [name for name, tensor in tensors.items() if _strange(name, tensor)]:
        raise ArtefactError(
            f"{folder / TENSORS} holds values that are no finite numbers (NaN, infinity, or none of floating "
            f"point), in {len(odd):,} of {len(tensors):,} tensors, the first being '{odd[0]}'; save the "
            "adapter again."
        )
    return config, tensors


def _strange(name: str, tensor: Tensor) -> bool:
    """Whether it cannot be a weight; only a coupling may have buffers of integers."""
    return not tensor.float().isfinite().all() if tensor.is_floating_point() else not name.startswith("coupling.")


def _number(path: Path, key: str, value: object) -> float:
    """A finite number, which JSON's booleans, NaN and texts are not."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LARGEST or math.isnan(value):
        raise ArtefactError(f"{path} has {key} = {foreign.shown(value)}; it must be a finite number.")
    return float(value)


def _some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "none"
