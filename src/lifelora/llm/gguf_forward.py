"""A forward pass straight from a .gguf file, in numpy, by the conventions of llama.cpp. Knows nothing of transformers.

It is the reference for what transformers makes of the file, and it shares no code with that. Rotary embeddings turn pairs of a
head's features. The pairs lie side by side (features 2i and 2i + 1) in files of architecture ``llama``, for which llama.cpp's
converter reorders the rows of q and k. They lie half a head apart (i and i + n/2) in the others and in Hugging Face's layout. A
model that is read in the wrong order writes nonsense and says nothing of it, so both orders are computed here.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int

SIDE_BY_SIDE = {"llama": True, "qwen2": False, "qwen3": False}
"""How the pairs lie, by architecture: the ones that this forward pass knows."""
ATTENTION = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_q_norm", "attn_k_norm", "attn_output")
PARTS = (*ATTENTION, "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")
WHOLE = ("token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight")
ROWS = 1 << 13
"""Rows of the head that are dequantised at a time."""


class Forward:
    """Logits of a file's model, layer by layer: no more than one is in memory."""

    def __init__(self, reader: Any) -> None:
        """``reader`` is the ``GGUFReader`` of a file of one of the architectures above.

        Raises ValueError or KeyError where the file's values are not those of its tensors.
        """
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.values = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")}
        self.architecture = str(self.values["general.architecture"])
        self.layers = sum(name.endswith(".attn_norm.weight") for name in self.tensors)
        self.heads = int(self.value("attention.head_count"))
        self.width = int(self.value("attention.key_length", self.value("embedding_length") // self.heads))
        tall, wide = self._shape("token_embd.weight")
        has = {
            "block_count": self.layers,
            "embedding_length": wide,
            "feed_forward_length": self._shape("blk.0.ffn_gate.weight")[0],
            "attention.head_count": self._shape("blk.0.attn_q.weight")[0] / self.width,
            "attention.head_count_kv": self._shape("blk.0.attn_k.weight")[0] / self.width,
            "rope.dimension_count": self.width,
            "vocab_size": tall,
        }
        # What a file need not say. Where it says nothing of the rest, transformers would take another model's.
        otherwise = {"attention.head_count_kv": self.heads, "rope.dimension_count": self.width, "vocab_size": tall}
        for name, size in has.items():
            if (said := self.value(name, otherwise.get(name))) != size:
                raise ValueError(f"it says {name} = {said}, and its tensors have {size:g}")

    def _shape(self, name: str) -> tuple[int, int]:
        wide, tall = self.tensors[name].shape.tolist()
        return int(tall), int(wide)

    def value(self, name: str, otherwise: Any = None) -> Any:
        """What the file says of its architecture; KeyError where it must say it and does not."""
        key = f"{self.architecture}.{name}"
        return self.values[key] if otherwise is None else self.values.get(key, otherwise)

    def unknown(self) -> list[str]:
        """Tensors that have no part in this forward pass, which would then be another model's."""
        parts = {f"blk.{layer}.{part}.{end}" for layer in range(self.layers) for part in PARTS for end in ("weight", "bias")}
        return sorted(set(self.tensors) - parts - set(WHOLE))

    def logits(self, tokens_L: Int[np.ndarray, "L"], far: int) -> Float[np.ndarray, "3 L V"]:
        """Of three readings: in the architecture's own order; in the other; in its own with tokens ``far`` positions apart."""
        place_L = np.arange(len(tokens_L))
        own = SIDE_BY_SIDE[self.architecture]
        readings = ((own, place_L), (not own, place_L), (own, place_L * far))
        x_3LE = np.stack([self._weight("token_embd.weight", tokens_L)] * len(readings))
        for layer in range(self.layers):
            x_3LE = x_3LE + self._attended(f"blk.{layer}", self._normed(x_3LE, f"blk.{layer}.attn_norm"), readings)
            y_3LE = self._normed(x_3LE, f"blk.{layer}.ffn_norm")
            gate_3LI = self._linear(y_3LE, f"blk.{layer}.ffn_gate")
            inner_3LI = gate_3LI / (1 + np.exp(-gate_3LI)) * self._linear(y_3LE, f"blk.{layer}.ffn_up")
            x_3LE = x_3LE + self._linear(inner_3LI, f"blk.{layer}.ffn_down")
        x_3LE = self._normed(x_3LE, "output_norm")
        return np.concatenate([x_3LE @ part_VE.T for part_VE in self._head()], axis=-1)

    def _head(self) -> Iterator[Float[np.ndarray, "V E"]]:
        name = "output.weight" if "output.weight" in self.tensors else "token_embd.weight"
        for start in range(0, len(self.tensors[name].data), ROWS):
            yield self._weight(name, slice(start, start + ROWS))

    def _weight(self, name: str, rows: Any = slice(None)) -> Float[np.ndarray, "..."]:
        from gguf import dequantize

        tensor = self.tensors[name]
        return np.asarray(dequantize(np.ascontiguousarray(tensor.data[rows]), tensor.tensor_type), np.float32)

    def _linear(self, x: Float[np.ndarray, "*N I"], name: str) -> Float[np.ndarray, "*N O"]:
        y: Float[np.ndarray, "*N O"] = x @ self._weight(f"{name}.weight").T
        return y + self._weight(f"{name}.bias") if f"{name}.bias" in self.tensors else y

    def _normed(self, x: Float[np.ndarray, "*N E"], name: str) -> Float[np.ndarray, "*N E"]:
        """RMSNorm (Zhang and Sennrich, arXiv 1910.07467)."""
        mean = np.square(x, dtype=np.float64).mean(axis=-1, keepdims=True)
        scaled = (x / np.sqrt(mean + self.value("attention.layer_norm_rms_epsilon"))).astype(np.float32)
        return np.asarray(scaled * self._weight(f"{name}.weight"))

    def _attended(
        self, block: str, x_3LE: Float[np.ndarray, "3 L E"], readings: tuple[tuple[bool, Int[np.ndarray, "L"]], ...]
    ) -> Float[np.ndarray, "3 L E"]:
        """softmax(q·k / √n) v, causal, where each head of k and v serves its group of heads of q."""
        length = x_3LE.shape[1]

        def heads(part: str) -> Float[np.ndarray, "3 N L D"]:
            y_3LND = self._linear(x_3LE, f"{block}.{part}").reshape(3, length, -1, self.width)
            if f"{block}.{part}_norm.weight" in self.tensors:
                y_3LND = self._normed(y_3LND, f"{block}.{part}_norm")
            y_3NLD = y_3LND.swapaxes(1, 2)
            if part != "attn_v":
                y_3NLD = np.stack([self._turned(y, *reading) for y, reading in zip(y_3NLD, readings, strict=True)])
            return y_3NLD.repeat(self.heads // y_3NLD.shape[1], axis=1)

        q, k, v = heads("attn_q"), heads("attn_k"), heads("attn_v")
        score_3NLL = np.where(np.tri(length, dtype=bool), q @ k.swapaxes(-1, -2) / np.sqrt(self.width), -np.inf)
        weight_3NLL = np.exp(score_3NLL - score_3NLL.max(axis=-1, keepdims=True))
        weight_3NLL /= weight_3NLL.sum(axis=-1, keepdims=True)
        y_3LE = (weight_3NLL @ v).swapaxes(1, 2).reshape(3, length, -1)
        return self._linear(y_3LE.astype(np.float32), f"{block}.attn_output")

    def _turned(
        self, x_NLD: Float[np.ndarray, "N L D"], side_by_side: bool, place_L: Int[np.ndarray, "L"]
    ) -> Float[np.ndarray, "N L D"]:
        """Rotary embedding (Su et al., arXiv 2104.09864): pair i, as a complex number, times exp(j · position · b^(-2i/n))."""
        n = int(self.value("rope.dimension_count", self.width))
        first = slice(0, n, 2) if side_by_side else slice(0, n // 2)
        second = slice(1, n, 2) if side_by_side else slice(n // 2, n)
        turn_F = float(self.value("rope.freq_base", 10_000.0)) ** (-np.arange(0, n, 2) / n)
        if "rope_freqs.weight" in self.tensors:
            turn_F = turn_F / self._weight("rope_freqs.weight")
        pair_NLF = (x_NLD[..., first] + 1j * x_NLD[..., second]) * np.exp(1j * place_L[:, None] * turn_F)
        turned_NLD = x_NLD.copy()
        turned_NLD[..., first], turned_NLD[..., second] = pair_NLF.real, pair_NLF.imag
        return turned_NLD
