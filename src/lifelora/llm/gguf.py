"""A .gguf file as a folder in Hugging Face's layout: dequantised once into the cache, and checked. Knows no recipe.

transformers reads the file; a forward pass of our own (``llm.gguf_forward``), straight from the file, must give the same logits,
or the folder is not made. The folder is a stage, so it appears whole or not at all; its place is the hash of the file's bytes.
"""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lifelora.artefacts import read_json, write_atomically
from lifelora.cache import cache_folder
from lifelora.errors import ConfigError, LifeloraError, MissingExtraError
from lifelora.folders import remove
from lifelora.llm.files import content_hash
from lifelora.llm.gguf_forward import SIDE_BY_SIDE, Forward
from lifelora.owner import owned
from lifelora.progress import say
from lifelora.stage import Stage

ABOUT = "gguf.json"
"""Of a converted model: its file, and what the check found."""
FORMAT = 1
"""Raised when files are converted otherwise, so that they are converted anew."""
TEXT = (
    "The capital of France is Paris. Water freezes at zero degrees, and the sun rises in the east. "
    "She opened the book and began to read."
)
"""What every LM of English finds far likelier in the right order of q and k than in the wrong one."""
TOKENS = 64
FARTHEST = 4096
"""The last position that the check asks: float32 has angles of farther ones too roughly."""
CLOSE = 2e-2
"""Of the logits' spread: how far two forward passes in float32 may be apart (SmolLM2-135M: 2e-6, at distant positions 2e-5)."""
CLEARLY = 0.25
"""Nats a token by which the text must be likelier in the other order for the file's to be wrong (SmolLM2-135M: 1.36)."""
DAMAGED = (ValueError, IndexError, KeyError, OverflowError, TypeError, OSError, ArithmeticError, AttributeError)
"""What gguf's reader, and transformers' on top of it, raise for files that are cut, altered, or of another kind."""


def is_gguf(path: str) -> bool:
    """Whether a path names a .gguf file, there or not."""
    return path.lower().endswith(".gguf") and not Path(path).is_dir()


def needs(what: str) -> None:
    """Raise MissingExtraError where files cannot be converted here; ``what`` needs it."""
    if find_spec("gguf") is None:
        raise MissingExtraError("gguf", "gguf", what)


def kept(digest: str) -> Path | None:
    """The folder that the cache has of the file with this hash; None where it has none, or a damaged one."""
    stage = _stage(digest)
    try:
        return stage.folder if stage.complete() else None
    except LifeloraError:
        return None


def all_kept() -> list[tuple[Path, dict[str, Any]]]:
    """Every converted model, with what is written in its ``ABOUT``."""
    folders = [path.parent for path in sorted(_root().glob(f"*/{ABOUT}")) if path.parent.suffix != ".working"]
    return [(folder, read_json(folder / ABOUT)) for folder in folders]


def converted(path: Path, key: str) -> Path:
    """The folder of this file's model, made where it is not there yet; ``key`` is where the recipe names the file.

    Raises ConfigError for a file that is no whole GGUF file, whose architecture has no reference here, or whose model does not
    agree with the reference; MissingExtraError without the package ``gguf``; BusyError while another process converts.
    """
    if not path.is_file():
        raise ConfigError(f"{key} = '{path}': no such file.")
    digest = content_hash(path)
    if (folder := kept(digest)) is not None:
        return folder
    needs(f"{key} = '{path}'")
    stage = _stage(digest)
    with owned(_root()):
        for left in _root().glob("*.working"):  # by a process that was killed, for this one owns the folder
            remove(left)
        with stage.making() as folder:
            say(f"{path.name}: converted once, into {stage.folder}")
            _convert(path, digest, folder, f"{key} = '{path}'")
    return stage.folder


def _root() -> Path:
    return cache_folder() / "models"


def _stage(digest: str) -> Stage:
    return Stage(_root() / digest[:16], "models/gguf", {"gguf": digest, "format": FORMAT})


def _convert(path: Path, digest: str, folder: Path, key: str) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    with _refused(key, "is damaged, cut, or no GGUF file"):
        reader = _reader(path)
        architecture = str(reader.fields["general.architecture"].contents())
    if architecture not in SIDE_BY_SIDE:
        raise ConfigError(
            f"{key} has the architecture '{architecture[:80]}', for which lifelora has no reference to check it against; it has "
            f"{', '.join(SIDE_BY_SIDE)}. Give the model in Hugging Face's layout (config.json, *.safetensors, tokenizer.json)."
        )
    with _refused(key, "does not say or hold what its architecture needs"):
        forward = Forward(reader)
        unread = forward.unknown()
        scaling = str(forward.value("rope.scaling.type", "none"))
    if unread or scaling != "none":
        what = f"tensors as '{unread[0][:80]}'" if unread else f"positions scaled by '{scaling[:80]}'"
        raise ConfigError(f"{key} has {what}, which are not read here. Give the model in Hugging Face's layout.")
    local = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    transformers_logging.disable_progress_bar()
    with _refused(key, "cannot be read by transformers"):
        tokenizer: Any = AutoTokenizer.from_pretrained(path.parent, **local)
    with _refused(key, "does not hold what its architecture needs"):
        tokens_L = np.array(tokenizer(TEXT)["input_ids"][:TOKENS])
        far = max(1, min(int(forward.value("context_length")), FARTHEST) // len(tokens_L) - 1)
        reference_3LV = forward.logits(tokens_L, far)
    with _refused(key, "cannot be read by transformers"), redirect_stderr(io.StringIO()):  # its bar of progress
        model: Any = AutoModelForCausalLM.from_pretrained(path.parent, dtype="float32", **local).eval()
        logits_2LV = _read(model, tokens_L, far)
    found = _checked(reference_3LV, logits_2LV, tokens_L, key)
    # With these, transformers would refuse to save what is no more quantised.
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    about = {"name": path.name, "file": str(path.absolute()), "sha256": digest, "architecture": architecture, **found}
    write_atomically(folder / ABOUT, json.dumps(about, indent=1))


def _reader(path: Path) -> Any:
    from gguf import GGUFReader

    class WithinTheFile(GGUFReader):  # type: ignore[misc]
        """The package's own takes what lies behind the end for nothing, and would count an altered length up for years."""

        def _get(self, offset: int, dtype: Any, count: Any = 1, **order: Any) -> Any:
            if int(offset) + np.dtype(dtype).itemsize * int(count) > len(self.data):
                raise ValueError("it ends too early")
            return super()._get(offset, dtype, count, **order)

    return WithinTheFile(path)


@contextmanager
def _refused(key: str, what: str) -> Iterator[None]:
    try:
        yield
    except LifeloraError:
        raise
    except (*DAMAGED, NotImplementedError, RuntimeError) as error:
        why = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise ConfigError(f"{key} {what} ({why}). Fetch the file again, or take another.") from error


def _read(model: Any, tokens_L: Int[np.ndarray, "L"], far: int) -> Float[np.ndarray, "2 L V"]:
    import torch

    places_2L = torch.arange(len(tokens_L)) * torch.tensor([[1], [far]])
    with torch.inference_mode():
        logits_2LV: Float[np.ndarray, "2 L V"] = model(
            torch.from_numpy(tokens_L).repeat(2, 1), position_ids=places_2L
        ).logits.numpy()
    return logits_2LV


def _checked(
    reference_3LV: Float[np.ndarray, "3 L V"], logits_2LV: Float[np.ndarray, "2 L V"], tokens_L: Int[np.ndarray, "L"], key: str
) -> dict[str, float]:
    """What the file's own forward pass and the model say of a text: ConfigError where they differ, or the order is wrong."""
    apart = max(_apart(reference_3LV[row], logits_LV) for row, logits_LV in zip((0, 2), logits_2LV, strict=True))
    if not apart <= CLOSE:
        raise ConfigError(
            f"{key}: transformers' model of this file is not what the file says: its logits are {apart:.2g} of their spread away "
            "from a forward pass straight from the file (a wrong order of the rows of q and k, or other positions, does that). "
            "Take another version of transformers, or the model in Hugging Face's layout."
        )
    nats, nats_other = (_nats(logits_LV, tokens_L) for logits_LV in reference_3LV[:2])
    if nats_other < nats - CLEARLY:
        raise ConfigError(
            f"{key}: the rows of q and k lie in the wrong order: a plain text has {nats:.2f} nats a token as the file is, and "
            f"{nats_other:.2f} in the other order. Its converter was wrong; take another file of this model."
        )
    return {"apart": apart, "nats": nats, "nats_other_order": nats_other}


def _apart(a_LV: Float[np.ndarray, "L V"], b_LV: Float[np.ndarray, "L V"]) -> float:
    return float(np.sqrt(np.square(a_LV - b_LV, dtype=np.float64).mean()) / a_LV.std())


def _nats(logits_LV: Float[np.ndarray, "L V"], tokens_L: Int[np.ndarray, "L"]) -> float:
    """Mean of -log p(next token)."""
    logits_LV = logits_LV[:-1].astype(np.float64)
    total_L = np.logaddexp.reduce(logits_LV, axis=-1)
    return float((total_L - logits_LV[np.arange(len(logits_LV)), tokens_L[1:]]).mean())
