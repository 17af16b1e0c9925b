"""The LM's head in full precision, of all words or of a few. Knows where transformers keeps a head; no task, no family.

In bf16 a logit near 18 is a multiple of 1/8, so the difference of two has a handful of values, and scores tie. The rows of the
head that are asked for are multiplied in fp32 instead, by the state that the model itself hands to its head; what the model does
to logits afterwards (scale, soft-cap) its own code goes on doing, now to fp32. A few rows are cheaper than all, too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLOCK = 16_384
"Rows of the head that are copied to full precision at a time."


@contextmanager
def full_precision(model: nn.Module, rows: Sequence[int] | None = None, *, when: bool = True) -> Iterator[None]:
    """Inside, ``model`` gives logits in fp32 (fp64 stays), and with ``rows`` only those of these words, in their order.

    A head that is more than a frozen linear layer (quantised, with an adapter, none at all) is left as it is, whole and as
    rounded as it was: the last axis of the logits says which. So is any head unless ``when``.
    """
    linear = _linear(model) if when else None
    if linear is None or (rows is None and linear.weight.dtype not in (torch.bfloat16, torch.float16)):
        yield
        return
    which = slice(None) if rows is None else torch.tensor(rows, device=linear.weight.device)
    linear.forward = lambda x: _product(x, linear.weight[which], None if linear.bias is None else linear.bias[which])
    try:
        yield
    finally:
        del linear.forward


def _linear(model: nn.Module) -> Any:
    """The head, where multiplying by its weight is all that it does."""
    get = getattr(model, "get_output_embeddings", None)
    head = get() if callable(get) else None
    if type(head) is not nn.Linear or "forward" in vars(head) or head._forward_hooks or head._forward_pre_hooks:
        return None
    whole = type(head.weight) in (nn.Parameter, Tensor) and head.weight.is_floating_point() and head.weight.device.type != "meta"
    return head if whole else None


def _product(x_XD: Tensor, W_ND: Tensor, bias_N: Tensor | None) -> Tensor:
    dtype = torch.promote_types(W_ND.dtype, torch.float32)
    logits = torch.empty(*x_XD.shape[:-1], len(W_ND), dtype=dtype, device=x_XD.device)
    with torch.autocast(x_XD.device.type, enabled=False):
        x_XD = x_XD.to(dtype)
        for start in range(0, len(W_ND), BLOCK):
            block = slice(start, start + BLOCK)
            logits[..., block] = F.linear(x_XD, W_ND[block].to(dtype), None if bias_N is None else bias_N[block].to(dtype))
    return logits
