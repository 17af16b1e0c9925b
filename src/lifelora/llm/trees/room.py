"""How many branches go together through a model, by bytes. Knows lengths and a model's sizes; no tokens, no adapter.

While G branches of X tokens are read against R trunks, there are at once, at most, in numbers of the model's dtype:

    trunks      R · T · 2 · Y · D            keys and values of a layer, in a rectangle of the longest trunk
    branches    X · 16 · W                   what a token has in the layer that runs (as in ``scoring.budget``)
    cross       R · A · 2 · H · D            queries and what they gather, A: the most tokens that a trunk is asked by
    own         G · Q · 4 · H · D            queries, keys, values and what is gathered, Q: of the longest branch
    which sees  R · A · T                    and a byte each, where a branch sees a part of its trunk's cells
    logits      E · V · 2                    in four bytes or more, E: the tokens that are read

W is the model's width, H its heads, Y those of keys and values, D a head's width, V the vocabulary. On other devices than a CPU
the products of attention stand in memory, too, so "which sees" counts once for each head there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast, final

from jaxtyping import Float
from torch import Tensor, nn


@final
@dataclass(frozen=True)
class Room:
    """A model's sizes."""

    width: int
    heads: int
    kept: int
    "2 · Y · D: keys and values of a token in a layer."
    head_width: int
    vocabulary: int
    number: int
    "Bytes of a number."
    products: int = 1
    "So many tables of which sees which."

    @classmethod
    def of(cls, model: nn.Module, k: Float[Tensor, "Y T D"], v: Float[Tensor, "Y T E"]) -> "Room":
        """Of a model, by the keys and values that it has of trunks in a layer."""
        config = cast(Any, model).config.get_text_config()
        heads = int(config.num_attention_heads)
        return cls(
            width=int(config.hidden_size),
            heads=heads,
            kept=k.shape[0] * k.shape[2] + v.shape[0] * v.shape[2],
            head_width=max(k.shape[2], v.shape[2]),
            vocabulary=int(config.vocab_size),
            number=k.element_size(),
            products=1 if k.device.type == "cpu" else heads,
        )

    def bytes(self, trunks: int, longest: int, asking: int, branches: int, branch: int, tokens: int, read: int) -> int:
        """R, T, A, G, Q, X and E as above."""
        numbers = (
            trunks * longest * self.kept
            + tokens * 16 * self.width
            + (trunks * asking * 2 + branches * branch * 4) * self.heads * self.head_width
            + trunks * asking * longest * self.products
        )
        return numbers * self.number + trunks * asking * longest + read * self.vocabulary * 2 * max(4, self.number)

    def slices(
        self, trunk_R: list[int], branch_G: list[int], tree_G: list[int], read_G: list[int], memory: int
    ) -> Iterator[slice]:
        """Branches one after another, as many at a time as ``memory`` bytes bear; one always goes."""
        start = 0
        while start < len(branch_G):
            # Trunks between those that are asked are in the rectangle, too.
            first = last = tree_G[start]
            of, longest, asking, branch, tokens, read = dict[int, int](), trunk_R[first], 0, 0, 0, 0
            for stop in range(start, len(branch_G)):
                tree, length = tree_G[stop], branch_G[stop]
                if not first <= tree <= last:
                    first, last = min(first, tree), max(last, tree)
                    longest = max(trunk_R[first : last + 1])
                of[tree] = of.get(tree, 0) + length
                asking, branch, tokens, read = max(asking, of[tree]), max(branch, length), tokens + length, read + read_G[stop]
                if (
                    stop > start
                    and self.bytes(last + 1 - first, longest, asking, stop + 1 - start, branch, tokens, read) > memory
                ):
                    break
            else:
                stop += 1
            yield slice(start, stop)
            start = stop
