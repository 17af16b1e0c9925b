"""Where the tokens of packed prompt trees stand, as indices for attention. Knows lengths and places; no model, no words.

A row of L tokens holds the trunks, one after another, and then the branches. Attention of it falls into three parts, none of
which is as large as L x L:

    trunk    a trunk's tokens see those before them in it           causal, R trunks of T tokens
    cross    a branch's tokens see its trunk up to its place        X tokens of a tree's branches by T
    own      a branch's tokens see those before them in it          causal, G branches of Q tokens
"""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@final
@dataclass(frozen=True)
class Block:
    """Tokens of a row laid out as N rows of a rectangle; cells without a token hold some other token."""

    index_NX: Int[Tensor, "N X"]
    real_NX: Bool[Tensor, "N X"]

    @classmethod
    def of(cls, start_N: Int[Tensor, "N"], length_N: Int[Tensor, "N"]) -> "Block":
        """Stretches of so many tokens from so many places."""
        width = int(length_N.max()) if len(length_N) else 0
        column_X = torch.arange(width, device=start_N.device)
        real_NX = column_X < length_N[:, None]
        return cls(torch.where(real_NX, start_N[:, None] + column_X, 0), real_NX)

    @classmethod
    def grouped(cls, group_L: Int[Tensor, "L"], groups: int) -> "Block":
        """The places 0 to L - 1 by the group that each is in, in their order."""
        order_L = group_L.argsort(stable=True)
        count_N = group_L.bincount(minlength=groups)
        stretches = cls.of(count_N.cumsum(0) - count_N, count_N)
        return cls(order_L[stretches.index_NX] if len(order_L) else stretches.index_NX, stretches.real_NX)

    @cached_property
    def count(self) -> int:
        """The cells with a token."""
        return int(self.real_NX.sum())

    @property
    def full(self) -> bool:
        """Whether there is a token in every cell."""
        return self.count == self.real_NX.numel()

    @cached_property
    def whole(self) -> tuple[int, int] | None:
        """The stretch that the cells are, read row by row, where none is empty: then nothing is copied."""
        flat, count = self.index_NX.flatten(), self.index_NX.numel()
        if not count or not self.full:
            return None
        start = int(flat[0])
        return (start, start + count) if torch.equal(flat, torch.arange(start, start + count, device=flat.device)) else None

    @cached_property
    def cells(self) -> tuple[Int[Tensor, "C"], Int[Tensor, "C"]]:
        """The cells with a token, counted row by row, and their places in the row of L tokens."""
        cell_C = self.real_NX.flatten().nonzero()[:, 0]
        return cell_C, self.index_NX.flatten()[cell_C]

    def take(self, x_HLD: Tensor) -> Tensor:
        """[N, H, X, D] of [H, L, D]."""
        N, X = self.index_NX.shape
        if self.whole is not None:
            taken = x_HLD[:, self.whole[0] : self.whole[1]]
        else:
            taken = x_HLD.index_select(1, self.index_NX.flatten())
        return taken.reshape(len(x_HLD), N, X, -1).transpose(0, 1)

    def put(self, x_NHXD: Tensor, into_HLD: Tensor) -> None:
        """Back to their places; cells without a token go nowhere."""
        N, H, X, D = x_NHXD.shape
        flat = x_NHXD.transpose(0, 1).reshape(H, N * X, D)
        if self.whole is not None:
            into_HLD[:, self.whole[0] : self.whole[1]] = flat
        else:
            cell_C, place_C = self.cells
            into_HLD.index_copy_(1, place_C, flat.index_select(1, cell_C))

    def add(self, x_NHXD: Tensor, into_HLD: Tensor) -> None:
        """As ``put``, added to what is there."""
        N, H, X, D = x_NHXD.shape
        flat = x_NHXD.transpose(0, 1).reshape(H, N * X, D)
        if self.whole is not None:
            into_HLD[:, self.whole[0] : self.whole[1]] += flat
        else:
            cell_C, place_C = self.cells
            into_HLD.index_add_(1, place_C, flat.index_select(1, cell_C))


@final
@dataclass(frozen=True)
class Own:
    """Tokens of branches that see tokens of the same branch."""

    asking: Block
    seen: Block
    sees_GAQ: Bool[Tensor, "G A Q"] | None
    "Which; None where they are the same tokens, and each sees those up to itself."


@final
@dataclass(frozen=True)
class Cross:
    """Tokens that see their tree's trunk."""

    asking: Block
    seen_RX: Int[Tensor, "R X"]
    "How many of the trunk's tokens each of them sees."
    width: int
    "T, of the longest trunk."

    @cached_property
    def sees_nothing(self) -> Bool[Tensor, "R X"] | None:
        """Those that see none of it; None where each sees some."""
        nothing_RX = (self.seen_RX == 0) & self.asking.real_NX
        return nothing_RX if bool(nothing_RX.any()) else None

    @cached_property
    def sees(self) -> Bool[Tensor, "R X T"] | None:
        """Which; None where each sees all."""
        if bool((self.seen_RX[self.asking.real_NX] == self.width).all()):
            return None
        return torch.arange(self.width, device=self.seen_RX.device) < self.seen_RX[..., None]


@final
@dataclass(frozen=True)
class Layout:
    """What sees what when some tokens of a row ask and all of them are seen."""

    trunk: Block
    "The trunks' tokens, as they are seen; of what is kept, if anything is."
    asks_trunk: bool
    "Whether the trunks' tokens ask, too."
    cross: Cross
    own: Own
    asking: int
    "How many tokens ask."
    first: int
    "The first of those that ask their branch, too: before it are the trunks'."
    biases: dict[tuple[str, torch.dtype], Tensor | None] = field(default_factory=dict)

    def bias(self, part: str, dtype: torch.dtype) -> Float[Tensor, "N 1 A K"] | None:
        """What a part adds to its products, made once for all layers; None where all is seen, or as much as is causal."""
        if (part, dtype) not in self.biases:
            sees_NAK = {"cross": self.cross.sees, "own": self.own.sees_GAQ}.get(part)
            self.biases[part, dtype] = None if sees_NAK is None else _bias(sees_NAK, dtype)
        return self.biases[part, dtype]


def _bias(sees_NAK: Bool[Tensor, "N A K"], dtype: torch.dtype) -> Float[Tensor, "N 1 A K"]:
    return torch.zeros(sees_NAK.shape, dtype=dtype, device=sees_NAK.device).masked_fill_(~sees_NAK, -math.inf)[:, None]


def everything(
    trunk_R: Int[Tensor, "R"],
    branch_G: Int[Tensor, "G"],
    tree_G: Int[Tensor, "G"],
    place_G: Int[Tensor, "G"],
    kept: bool = False,
) -> Layout:
    """All tokens ask; where the trunks are ``kept`` from before, the row holds the branches alone."""
    trunk = Block.of(trunk_R.cumsum(0) - trunk_R, trunk_R)
    before = 0 if kept else int(trunk_R.sum())
    branches = Block.of(before + branch_G.cumsum(0) - branch_G, branch_G)
    of_X = torch.arange(len(branch_G), device=branch_G.device).repeat_interleave(branch_G)
    crossing = Block.grouped(tree_G[of_X], len(trunk_R))
    seen_RX = place_G[of_X][crossing.index_NX] if len(of_X) else crossing.index_NX
    crossing = Block(crossing.index_NX + before, crossing.real_NX)
    cross = Cross(crossing, torch.where(crossing.real_NX, seen_RX, 1), trunk.index_NX.shape[1])
    return Layout(trunk, not kept, cross, Own(branches, branches, None), before + len(of_X), before)


def ends(
    trunk_R: Int[Tensor, "R"],
    branch_G: Int[Tensor, "G"],
    tree_G: Int[Tensor, "G"],
    place_G: Int[Tensor, "G"],
    read_E: Int[Tensor, "E"],
    kept: bool = False,
) -> Layout:
    """The tokens at ``read_E`` alone ask, of trunks or branches, in the row of all tokens."""
    device = branch_G.device
    trunk = Block.of(trunk_R.cumsum(0) - trunk_R, trunk_R)
    before = 0 if kept else int(trunk_R.sum())
    R, G = len(trunk_R), len(branch_G)
    # Of every token of the row: its tree, how many trunk tokens it sees, its branch (G: none) and its place in that.
    of_X = torch.arange(G, device=device).repeat_interleave(branch_G)
    start_G = before + branch_G.cumsum(0) - branch_G
    own_X = before + torch.arange(len(of_X), device=device) - start_G[of_X]
    tree_L, seen_L, branch_L, own_L = tree_G[of_X], place_G[of_X], of_X, own_X
    if before:
        of_T = torch.arange(R, device=device).repeat_interleave(trunk_R)
        place_T = torch.arange(before, device=device) - (trunk_R.cumsum(0) - trunk_R)[of_T]
        none_T = torch.full_like(of_T, G)
        tree_L, seen_L, branch_L, own_L = (
            torch.cat(pair)
            for pair in ((of_T, tree_L), (place_T + 1, seen_L), (none_T, branch_L), (torch.zeros_like(of_T), own_L))
        )
    tree_E, seen_E, branch_E, own_E = (table_L[read_E] for table_L in (tree_L, seen_L, branch_L, own_L))
    crossing = Block.grouped(tree_E, R)
    seen_RX = seen_E[crossing.index_NX] if len(read_E) else crossing.index_NX
    cross = Cross(crossing, torch.where(crossing.real_NX, seen_RX, 1), trunk.index_NX.shape[1])
    grouped = Block.grouped(branch_E, G + 1)
    asking = Block(grouped.index_NX[:G], grouped.real_NX[:G])
    width = int(asking.real_NX.sum(dim=1).max()) if G else 0
    asking = Block(asking.index_NX[:, :width], asking.real_NX[:, :width])
    seen = Block.of(start_G, branch_G)
    sees_GAQ = torch.arange(seen.index_NX.shape[1], device=device) <= own_E[asking.index_NX][..., None] if width else None
    return Layout(trunk, False, cross, Own(asking, seen, sees_GAQ), len(read_E), 0)
