"""Attention of packed prompt trees, exact and without a mask of all tokens by all. Knows queries, keys and a layout.

A token of a branch sees two stretches, its trunk up to a place and its branch up to itself. With s_j = scale · q·k_j over
either stretch,

    o_i = sum over j of softmax(s)_j v_j,    l_i = log sum over j of exp(s_j)
    l = log(exp(l_1) + exp(l_2)),            o = exp(l_1 - l) o_1 + exp(l_2 - l) o_2

which is softmax over both together. Given o and l of both, the backward of either stretch alone is that of plain attention, for
the probabilities of its tokens are exp(s_j - l): so l needs no gradient of its own (as in ring attention, arXiv 2310.01889).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lifelora.llm.trees.layout import Block, Layout

_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True)
class Part:
    """One stretch's queries, keys and values in rectangles, and which sees which."""

    q: Float[Tensor, "N H A D"]
    k: Float[Tensor, "N Y K D"]
    v: Float[Tensor, "N Y K D"]
    sees: Bool[Tensor, "N A K"] | None
    causal: bool

    @property
    def bias(self) -> Tensor | None:
        """What is added to the products."""
        if self.sees is None:
            return None
        return torch.zeros(self.sees.shape, dtype=self.q.dtype, device=self.q.device).masked_fill_(~self.sees, -math.inf)[:, None]


def parts(layout: Layout, q: Tensor, k: Tensor, v: Tensor, kept: tuple[Tensor, Tensor] | None) -> dict[str, Part]:
    """The parts of a layout that are not empty; q, k, v are [H, L, D]."""
    made = {}
    k_trunk, v_trunk = (layout.trunk.take(x) for x in ((k, v) if kept is None else kept))
    if layout.asks_trunk and layout.trunk.index_NX.numel():
        made["trunk"] = Part(layout.trunk.take(q), k_trunk, v_trunk, None, True)
    if layout.cross.asking.index_NX.numel() and layout.cross.width:
        made["cross"] = Part(layout.cross.asking.take(q), k_trunk, v_trunk, layout.cross.sees, False)
    if layout.own.asking.index_NX.numel():
        own = layout.own
        made["own"] = Part(own.asking.take(q), own.seen.take(k), own.seen.take(v), own.sees_GAQ, own.sees_GAQ is None)
    return made


def merged(layout: Layout, found: dict[str, tuple[Tensor, Tensor]], like: Tensor) -> tuple[Tensor, Tensor]:
    """o [H, A, D] and l [H, A, 1] of all tokens that ask, of (o, l) of each part."""
    H, _, D = like.shape
    wide = torch.promote_types(like.dtype, torch.float32)

    def put(name: str, block: Block, nothing: Tensor | None = None) -> tuple[Tensor, Tensor]:
        o, l_HA1 = like.new_zeros(H, layout.asking, D), like.new_full((H, layout.asking, 1), -math.inf, dtype=wide)
        if name in found:
            o_part, l_part = found[name]
            if nothing is not None:
                l_part = l_part.masked_fill(nothing[:, None], -math.inf)  # the kernel says 0
            block.put(o_part, o)
            block.put(l_part[..., None].to(wide), l_HA1)
        return o, l_HA1

    o, l_HA1 = put("cross", layout.cross.asking, layout.cross.sees_nothing)
    if "own" in found:
        o_own, l_own = put("own", layout.own.asking)
        both = torch.logaddexp(l_HA1, l_own)
        o = (o * (l_HA1 - both).exp().nan_to_num(0.0) + o_own * (l_own - both).exp().nan_to_num(0.0)).to(o.dtype)
        l_HA1 = both
    if "trunk" in found:
        layout.trunk.put(found["trunk"][0], o)
        layout.trunk.put(found["trunk"][1][..., None].to(wide), l_HA1)
    return o, l_HA1


class _Fused(torch.autograd.Function):
    """By torch's own kernel for CPUs; what is kept for backward is as long as the row."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, layout: Layout, scale: float, kept: Any) -> Tensor:
        found = {
            name: _forward(part.q, part.k, part.v, 0.0, part.causal, attn_mask=part.bias, scale=scale)
            for name, part in parts(layout, q, k, v, kept).items()
        }
        o, l_HA1 = merged(layout, found, q)
        ctx.layout, ctx.scale, ctx.kept = layout, scale, kept
        ctx.save_for_backward(q, k, v, o, l_HA1)
        return o

    @staticmethod
    def backward(ctx: Any, do: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, o, l_HA1 = ctx.saved_tensors
        layout: Layout = ctx.layout
        dq, dk, dv = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        blocks = {
            "trunk": (layout.trunk, layout.trunk),
            "cross": (layout.cross.asking, layout.trunk),
            "own": (layout.own.asking, layout.own.seen),
        }
        for name, part in parts(layout, q, k, v, ctx.kept).items():
            asking, seen = blocks[name]
            share = part.q.shape[1] // part.k.shape[1]
            dq_part, dk_part, dv_part = _backward(
                # A cell without a token asks with another one's query, and must give no gradient to keys.
                asking.take(do).masked_fill(~asking.real_NX[:, None, :, None], 0.0),
                part.q,
                part.k.repeat_interleave(share, dim=1),
                part.v.repeat_interleave(share, dim=1),
                asking.take(o),
                asking.take(l_HA1)[..., 0],
                0.0,
                part.causal,
                attn_mask=part.bias,
                scale=ctx.scale,
            )
            asking.add(dq_part, dq)
            if ctx.kept is None or name == "own":
                seen.add(dk_part.unflatten(1, (-1, share)).sum(dim=2), dk)
                seen.add(dv_part.unflatten(1, (-1, share)).sum(dim=2), dv)
        return dq, dk, dv, None, None, None


def _plain(part: Part, scale: float, dropout: float) -> tuple[Tensor, Tensor]:
    """By products and softmax, on any device."""
    share = part.q.shape[1] // part.k.shape[1]
    k, v = (x.repeat_interleave(share, dim=1) for x in (part.k, part.v))
    s = (part.q @ k.mT * scale).to(torch.promote_types(part.q.dtype, torch.float32))
    if part.bias is not None:
        s = s + part.bias
    if part.causal:
        s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).triu(1), -math.inf)
    l_NHA = s.logsumexp(dim=-1)
    p = (s - l_NHA[..., None]).exp().nan_to_num(0.0)
    return torch.nn.functional.dropout(p, dropout).to(v.dtype) @ v, l_NHA


def attend(
    layout: Layout,
    q: Float[Tensor, "H A D"],
    k: Float[Tensor, "Y L D"],
    v: Float[Tensor, "Y L D"],
    scale: float,
    dropout: float = 0.0,
    kept: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "H A D"]:
    """What each asking token gathers; ``kept`` are keys and values of the trunks, [Y, trunk tokens, D], read before."""
    if q.device.type == "cpu" and not dropout:
        made: Tensor = _Fused.apply(q, k, v, layout, scale, kept)  # type: ignore[no-untyped-call]
        return made
    found = {name: _plain(part, scale, dropout) for name, part in parts(layout, q, k, v, kept).items()}
    return merged(layout, found, q)[0]
