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
from jaxtyping import Float
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
    bias: Float[Tensor, "N 1 A K"] | None
    causal: bool

    def shared(self) -> tuple[Tensor, Tensor]:
        """Keys and values of every head that asks."""
        share = self.q.shape[1] // self.k.shape[1]
        return (self.k, self.v) if share == 1 else (self.k.repeat_interleave(share, 1), self.v.repeat_interleave(share, 1))


def parts(layout: Layout, q: Tensor, k: Tensor, v: Tensor, kept: tuple[Tensor, Tensor] | None) -> dict[str, Part]:
    """The parts of a layout that are not empty; q, k, v are [H, L, D]."""
    made = {}
    k_trunk, v_trunk = (layout.trunk.take(x) for x in ((k, v) if kept is None else kept))
    if layout.asks_trunk and layout.trunk.index_NX.numel():
        made["trunk"] = Part(layout.trunk.take(q), k_trunk, v_trunk, None, True)
    if layout.cross.asking.index_NX.numel() and layout.cross.width:
        made["cross"] = Part(layout.cross.asking.take(q), k_trunk, v_trunk, layout.bias("cross", q.dtype), False)
    if layout.own.asking.index_NX.numel():
        own, bias = layout.own, layout.bias("own", q.dtype)
        made["own"] = Part(own.asking.take(q), own.seen.take(k), own.seen.take(v), bias, bias is None)
    return made


def merged(layout: Layout, found: dict[str, tuple[Tensor, Tensor]], like: Tensor) -> tuple[Tensor, Tensor]:
    """o [H, A, D] and l [H, A, 1] of all tokens that ask, of (o, l) of each part."""
    H, A, D = like.shape[0], layout.asking, like.shape[2]
    wide, first = torch.promote_types(like.dtype, torch.float32), layout.first

    def spread(name: str, block: Block) -> tuple[Tensor, Tensor]:
        """Of one part, of the tokens from ``first`` on: where it has nothing, o = 0 and l = -inf."""
        nothing = name not in found or block.count < A - first
        # A token's heads lie together, as the next layer wants them.
        o, l_HA1 = like.new_empty(A, H, D).transpose(0, 1), like.new_empty(H, A, 1, dtype=wide)
        if nothing:
            o, l_HA1 = o.zero_(), l_HA1.fill_(-math.inf)
        if name in found:
            block.put(found[name][0], o)
            block.put(found[name][1][..., None].to(wide), l_HA1)
        return o[:, first:], l_HA1[:, first:]

    if layout.cross.sees_nothing is not None and "cross" in found:
        o, l_NHX = found["cross"]  # a softmax over nothing: kernels say what they like
        nothing_N1X = layout.cross.sees_nothing[:, None]
        found["cross"] = o.masked_fill(nothing_N1X[..., None], 0.0), l_NHX.masked_fill(nothing_N1X, -math.inf)
    o, l_HA1 = spread("cross", layout.cross.asking)
    if "own" in found:
        o_own, l_own = spread("own", layout.own.asking)
        share_own = torch.sigmoid(l_own - l_HA1)  # = exp(l_own - l)
        o, l_HA1 = torch.lerp(o.to(wide), o_own.to(wide), share_own).to(o.dtype), torch.logaddexp(l_HA1, l_own)
    if "trunk" not in found:
        return o, l_HA1
    o_trunk, l_trunk = like.new_empty(first, H, D).transpose(0, 1), like.new_empty(H, first, 1, dtype=wide)
    layout.trunk.put(found["trunk"][0], o_trunk)
    layout.trunk.put(found["trunk"][1][..., None].to(wide), l_trunk)
    return torch.cat([o_trunk.transpose(0, 1), o.transpose(0, 1)]).transpose(0, 1), torch.cat([l_trunk, l_HA1], dim=1)


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
        # As the layers before want it: the heads of a token lie together.
        dq, dk, dv = (x.new_zeros(x.shape[1], x.shape[0], x.shape[2]).transpose(0, 1) for x in (q, k, v))
        for name, part in parts(layout, q, k, v, ctx.kept).items():
            asking = {"trunk": layout.trunk, "cross": layout.cross.asking, "own": layout.own.asking}[name]
            l_NHA = asking.take(l_HA1)[..., 0]
            if not asking.full:  # a cell without a token asks with another one's query, which finds nothing: exp(s - inf) = 0
                l_NHA = l_NHA.masked_fill(~asking.real_NX[:, None], math.inf)
            dq_part, dk_part, dv_part = _backward(
                asking.take(do),
                part.q,
                *part.shared(),
                asking.take(o),
                l_NHA,
                0.0,
                part.causal,
                attn_mask=part.bias,
                scale=ctx.scale,
            )
            # Trunk and cross have other queries and the same keys; cross and own the same queries and other keys.
            (asking.add if name == "own" else asking.put)(dq_part, dq)
            if ctx.kept is not None and name == "cross":
                continue
            if part.k.shape[1] != part.q.shape[1]:
                dk_part, dv_part = (x.unflatten(1, (part.k.shape[1], -1)).sum(dim=2) for x in (dk_part, dv_part))
            seen = layout.own.seen if name == "own" else layout.trunk
            for x_part, x in ((dk_part, dk), (dv_part, dv)):
                (seen.add if name == "cross" else seen.put)(x_part, x)
        return dq, dk, dv, None, None, None


def _plain(part: Part, scale: float, dropout: float) -> tuple[Tensor, Tensor]:
    """By products and softmax, on any device."""
    k, v = part.shared()
    s = (part.q @ k.mT * scale).to(torch.promote_types(part.q.dtype, torch.float32))
    if part.bias is not None:  # a row that sees nothing is left as it is: ``merged`` takes nothing of it
        s = s + part.bias.masked_fill((part.bias == -math.inf).all(dim=-1, keepdim=True), 0.0)
    if part.causal:
        s = s.masked_fill(torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).triu(1), -math.inf)
    l_NHA = s.logsumexp(dim=-1)
    p = (s - l_NHA[..., None]).exp()
    return torch.nn.functional.dropout(p, dropout).to(v.dtype) @ v, l_NHA


def _alone(part: Part, scale: float, dropout: float) -> tuple[Tensor, Tensor]:
    """The trunk's tokens, which see nothing else and are merged with nothing: by torch's own attention."""
    k, v = part.shared()
    o = torch.nn.functional.scaled_dot_product_attention(part.q, k, v, dropout_p=dropout, is_causal=True, scale=scale)
    return o, o.new_zeros(o.shape[:-1])


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
    found = {
        name: (_alone if name == "trunk" else _plain)(part, scale, dropout) for name, part in parts(layout, q, k, v, kept).items()
    }
    return merged(layout, found, q)[0]
