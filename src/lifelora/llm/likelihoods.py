"""The log-likelihood of every candidate's title as the answer to its row's prompt. Knows an LM and tokens, no data set.

The prompt is computed once for each row; its keys and values are shared by the row's titles, whose tokens alone are computed
after that:

    score_c = sum over t of log p(title_ct | prompt, title_c<t),   or its mean over the A_c tokens of the title

over the whole vocabulary in full precision, the end of the title's line included. Both are what a full prompt for each candidate
gives.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lifelora.llm.cost import Cost, clocked
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.shared_prompt import MAX_TOKENS, SharedPrompt
from lifelora.llm.titles import TitleLM
from lifelora.prompts.titles import Titles


@dataclass(frozen=True)
class Likelihoods:
    """Scores of candidates; a row's titles of the same tokens have the same score, to the last digit."""

    score_BC: Float[Tensor, "B C"]
    cost: Cost


@torch.no_grad()
def likelihoods(
    lm: TitleLM, batch: PersonalBatch, titles: Titles, *, length_normalised: bool = False, max_tokens: int = MAX_TOKENS
) -> Likelihoods:
    """The log-likelihood of every title as its row's answer, or its mean over the title's tokens where ``length_normalised``.

    The prompts are read together. After that no more titles are computed together than ``max_tokens`` has room for, each with
    a copy of its prompt, but one at a time always is.
    """
    # Titles of about a length stand together, so that there is little padding among them.
    length_BC, order_BC = titles.mask_BCA.sum(dim=-1).sort(dim=1, stable=True)
    tokens_BCA, mask_BCA = (table.take_along_dim(order_BC[..., None], dim=1) for table in (titles.tokens_BCA, titles.mask_BCA))
    with clocked(tokens_BCA.device) as cost:
        prompt = SharedPrompt.of(lm, batch, cost)
        sum_BC = prompt.logits_BV.log_softmax(dim=-1).gather(1, tokens_BCA[..., 0])
        for some, longest in _alike(length_BC.amax(dim=0).tolist(), prompt.length, max_tokens // max(1, len(length_BC))):
            times = some.stop - some.start
            for part in prompt.parts(times, longest, max_tokens):
                tokens_NA, mask_NA = (table[part, some, :longest].flatten(0, 1) for table in (tokens_BCA, mask_BCA))
                # The last token is predicted and predicts nothing. Padding stands at the right, where nothing sees it.
                logits_NAV = prompt.repeated(times, part).after(tokens_NA[:, :-1], mask_NA[:, :-1], cost)
                own_NA = logits_NAV.gather(2, tokens_NA[:, 1:, None])[..., 0] - logits_NAV.logsumexp(dim=-1)
                sum_BC[part, some] += (own_NA * mask_NA[:, 1:]).sum(dim=1).view(-1, times)
        score_BC = torch.empty_like(sum_BC).scatter_(1, order_BC, sum_BC / length_BC if length_normalised else sum_BC)
        score_BC = _tied(score_BC, titles.tokens_BCA)
    return Likelihoods(score_BC, cost)


def _alike(length_C: list[int], before: int, room: int) -> Iterator[tuple[slice, int]]:
    """Stretches of rising lengths with the longest of each: none over twice another, and as many as have room with their prompts.

    Titles of one token need none.
    """
    start = 0
    while start < len(length_C):
        stop = start + 1
        while (
            stop < len(length_C)
            and (stop + 1 - start) * (before + length_C[stop]) <= room
            and length_C[stop] <= 2 * length_C[start]
        ):
            stop += 1
        if length_C[stop - 1] > 1:
            yield slice(start, stop), length_C[stop - 1]
        start = stop


def _tied(score_BC: Tensor, tokens_BCA: Tensor) -> Tensor:
    """A row's equal titles with one score, that of the first: computed in different places, the last digit may differ."""
    B, C, _ = tokens_BCA.shape
    place_N = torch.arange(B * C, device=score_BC.device)
    texts_NT = torch.cat([place_N[:, None] // C, tokens_BCA.flatten(0, 1)], dim=1)
    _, which_N = torch.unique(texts_NT, dim=0, return_inverse=True)
    first_N = torch.full_like(which_N, B * C).scatter_reduce(0, which_N, place_N, "amin")
    return score_BC.flatten()[first_N[which_N]].view(B, C)
