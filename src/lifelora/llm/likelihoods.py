"""The log-likelihood of every candidate's title as the answer to its row's prompt. Knows an LM and tokens, no data set.

    score_c = sum over t of log p(title_ct | prompt, title_c<t),   or its mean over the A_c tokens of the title

over the whole vocabulary in full precision, the end of the title's line included. The prompt is a trunk that is read once, which
says what comes first; titles are its branches. Of a model that reads no trees every title is read with a prompt of its own.
Both give the same.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.llm.cost import Cost, clocked
from lifelora.llm.head import full_precision
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.stretches import Stretches
from lifelora.llm.titles import TitleLM
from lifelora.llm.trees.interface import installed
from lifelora.llm.trunk import MEMORY, Trunk
from lifelora.prompts.fill import Prompts
from lifelora.prompts.titles import Titles
from lifelora.prompts.tree import PromptTrees
from lifelora.scoring.budget import token_bytes


@dataclass(frozen=True)
class Likelihoods:
    """Scores of candidates; a row's titles of the same tokens have the same score, to the last digit."""

    score_BC: Float[Tensor, "B C"]
    logp_BCA: Float[Tensor, "B C A"]
    "Of every token of a title after those before it; 0 after its end."
    cost: Cost


@torch.no_grad()
def likelihoods(
    lm: TitleLM,
    batch: PersonalBatch,
    titles: Titles,
    *,
    length_normalised: bool = False,
    memory: int = MEMORY,
    trunk: Trunk | None = None,
) -> Likelihoods:
    """The log-likelihood of every title as its row's answer, or its mean over the title's tokens where ``length_normalised``.

    The prompts (or trees of questions) are read together, unless they were read before as a ``trunk``, of a model that reads
    trees. After that as many titles are read together as ``memory`` bytes bear.
    """
    if batch.prompts.answer_BA is not None if isinstance(batch.prompts, Prompts) else batch.prompts.answer_G is not None:
        raise ConfigError("these prompts already have their answers: ask with TitleBuilder.question.")
    with clocked(titles.tokens_BCA.device) as cost:
        if installed(lm.model):
            logp_BCA = _as_branches(lm, batch, titles, memory, cost, trunk)
        else:
            logp_BCA = _as_prompts(lm, batch, titles, memory, cost)
        sum_BC = logp_BCA.sum(dim=-1)
        score_BC = _tied(sum_BC / titles.mask_BCA.sum(dim=-1) if length_normalised else sum_BC, titles.tokens_BCA)
    return Likelihoods(score_BC, logp_BCA, cost)


def _as_branches(
    lm: TitleLM, batch: PersonalBatch, titles: Titles, memory: int, cost: Cost, kept: Trunk | None
) -> Float[Tensor, "B C A"]:
    trunk = Trunk.of(lm, batch) if kept is None else kept
    if isinstance(batch.prompts, PromptTrees):  # each question becomes the end of a prompt of its own
        branches = Stretches.of(lm, batch)
        rows_G = torch.arange(len(branches), device=branches.tree_N.device)
        trunk = trunk.at(branches.tree_N, branches.place_N).extended(replace(branches, tree_N=rows_G))
        cost.tokens += len(branches.tokens_X)
    cost.tokens += len(trunk.code_T2) if isinstance(batch.prompts, Prompts) else int(batch.prompts.trunk_R.sum())
    B, C, A = titles.tokens_BCA.shape
    assert trunk.logits_RV is not None
    logp_BCA = torch.zeros(B, C, A, dtype=trunk.logits_RV.dtype, device=titles.tokens_BCA.device)
    logp_BCA[..., 0] = trunk.logits_RV.log_softmax(dim=-1).gather(1, titles.tokens_BCA[..., 0])
    # The last token of a title is said and says nothing.
    length_N = titles.mask_BCA.sum(dim=-1).flatten() - 1
    row_N, place_N = (length_N > 0).nonzero()[:, 0], torch.arange(A - 1, device=length_N.device)
    length_N = length_N[row_N]
    read_NA = place_N < length_N[:, None]
    tokens_NA, of_N = titles.tokens_BCA.flatten(0, 1)[row_N], row_N // C
    branches = Stretches(tokens_NA[:, :-1][read_NA], length_N, of_N, trunk.length_R[of_N])
    said_X = tokens_NA[:, 1:][read_NA]
    logp_X = [logp_BCA.new_zeros(0)]
    for _, logits_EV in trunk.ask(branches, every=True, memory=memory):
        done = sum(map(len, logp_X))
        said_E = said_X[done : done + len(logits_EV)]
        logp_X.append(logits_EV.gather(1, said_E[:, None])[:, 0] - logits_EV.logsumexp(dim=-1))
    cost.tokens += len(said_X)
    later_NA = logp_BCA.flatten(0, 1)[row_N]
    later_NA[:, 1:][read_NA] = torch.cat(logp_X)
    logp_BCA.flatten(0, 1)[row_N] = later_NA
    return logp_BCA


def _as_prompts(lm: TitleLM, batch: PersonalBatch, titles: Titles, memory: int, cost: Cost) -> Float[Tensor, "B C A"]:
    prompts, C_u = batch.prompts, lm.couplings(batch)
    assert isinstance(prompts, Prompts)
    B, C, A = titles.tokens_BCA.shape
    (_, L), logp = prompts.tokens_BL.shape, list[Tensor]()
    vocabulary = int(lm.model.config.get_text_config().vocab_size)  # type: ignore[union-attr, operator]
    count = max(1, memory // ((L + A) * token_bytes(lm.model) + A * vocabulary * 8))
    for first in range(0, B * C, count):
        rows_N = torch.arange(first, min(first + count, B * C), device=prompts.tokens_BL.device)
        some, of_N = _answered(prompts, titles, rows_N), rows_N // C
        each = replace(
            batch,
            prompts=some,
            user_BD=batch.user_BD[of_N],
            label_B=None,
            samples=None,
            soft_user_BX=None if batch.soft_user_BX is None else batch.soft_user_BX[of_N],
        )
        C_N = lm.placed(each, None if C_u is None else C_u.at(of_N))
        with lm.adapters.holding(C_N), full_precision(lm.model, when=lm.head):
            logits_NAV = lm.run(each, logits_to_keep=A + 1, use_cache=False).logits[:, :-1]
        logits_NAV = logits_NAV.to(torch.promote_types(logits_NAV.dtype, torch.float32))
        said_NA = logits_NAV.gather(2, some.tokens_BL[:, -A:, None])[..., 0] - logits_NAV.logsumexp(dim=-1)
        # Answers end where their prompts end; titles begin in one column.
        turned_NA = (torch.arange(A, device=rows_N.device) - titles.mask_BCA.flatten(0, 1)[rows_N].sum(dim=1)[:, None]) % A
        logp.append(said_NA.gather(1, turned_NA))
        cost.tokens += some.tokens_BL.numel()
    return torch.cat(logp).view(B, C, A) * titles.mask_BCA


def _answered(prompts: Prompts, titles: Titles, rows_N: Int[Tensor, "N"]) -> Prompts:
    """Some titles, counted row by row, each at the end of its row's prompt."""
    L, (_, C, A) = prompts.tokens_BL.shape[1], titles.tokens_BCA.shape
    of_N = rows_N // C
    length_N1 = titles.mask_BCA.flatten(0, 1)[rows_N].sum(dim=1)[:, None]
    # [prompt, title, its padding], turned to the right by its padding, which comes to stand at the left.
    column_NL = (torch.arange(L + A, device=rows_N.device) - (A - length_N1)) % (L + A)
    title_NA, mask_NA = titles.tokens_BCA.flatten(0, 1)[rows_N], titles.mask_BCA.flatten(0, 1)[rows_N]
    none_NA = torch.full_like(title_NA, -1)

    def joined(prompt_BL: Tensor, title_NA: Tensor) -> Tensor:
        return torch.cat([prompt_BL[of_N], title_NA], dim=1).gather(1, column_NL)

    return Prompts(
        joined(prompts.tokens_BL, title_NA),
        joined(prompts.mask_BL, mask_NA),
        prompts.shown_B[of_N],
        None if prompts.soft_BL is None else joined(prompts.soft_BL, none_NA),
        question_B=None if prompts.question_B is None else prompts.question_B[of_N] + length_N1[:, 0],
    )


def _tied(score_BC: Tensor, tokens_BCA: Tensor) -> Tensor:
    """A row's equal titles with one score, that of the first: computed in different places, the last digit may differ."""
    B, C, _ = tokens_BCA.shape
    place_N = torch.arange(B * C, device=score_BC.device)
    texts_NT = torch.cat([place_N[:, None] // C, tokens_BCA.flatten(0, 1)], dim=1)
    _, which_N = torch.unique(texts_NT, dim=0, return_inverse=True)
    first_N = torch.full_like(which_N, B * C).scatter_reduce(0, which_N, place_N, "amin")
    return score_BC.flatten()[first_N[which_N]].view(B, C)
