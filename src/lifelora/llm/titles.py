"""Answers of the LM: the log-likelihood of every candidate title, or a title that it writes. Knows no data set.

The prompt is computed once for each row; its keys and values are shared by the row's titles (or beams), whose tokens alone
are computed after that:

    score_c = sum over t of log p(title_ct | prompt, title_c<t),   or its mean over the A_c tokens of the title

over the whole vocabulary in full precision, the end of the title's line included. Both are what a full prompt for each candidate
gives.
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.llm.continuation import Continuation
from lifelora.llm.head import full_precision
from lifelora.llm.next_item import NextItemBatch, NextItemLM
from lifelora.llm.probe import named_context
from lifelora.llm.reading import Reader
from lifelora.prompts.titles import Titles


@dataclass
class Cost:
    """What an answer took: tokens that went through the LM (padding and beams that came to nothing, too), and seconds."""

    tokens: int = 0
    seconds: float = 0.0

    def add(self, other: "Cost") -> None:
        """Both together."""
        self.tokens += other.tokens
        self.seconds += other.seconds


@dataclass(frozen=True)
class Likelihoods:
    """Scores of candidates; a row's titles of the same tokens have the same score, to the last digit."""

    score_BC: Float[Tensor, "B C"]
    cost: Cost


@dataclass(frozen=True)
class Named:
    """Which candidates an answer names: several where they are called the same, none where it is no candidate."""

    named_BC: Bool[Tensor, "B C"]
    cost: Cost


@dataclass(frozen=True)
class Written:
    """What the LM wrote, up to the end of the line."""

    lines: list[str]
    cost: Cost


@torch.no_grad()
def likelihoods(
    lm: NextItemLM, batch: NextItemBatch, titles: Titles, *, length_normalised: bool = False, at_once: int = 256
) -> Likelihoods:
    """The log-likelihood of every title as its row's answer, or its mean over the title's tokens where ``length_normalised``.

    ``at_once`` rows and titles are computed together.
    """
    # Titles of about a length stand together, so that there is little padding among them.
    length_BC, order_BC = titles.mask_BCA.sum(dim=-1).sort(dim=1, stable=True)
    tokens_BCA, mask_BCA = (table.take_along_dim(order_BC[..., None], dim=1) for table in (titles.tokens_BCA, titles.mask_BCA))
    with _clocked(tokens_BCA.device) as cost:
        prompt = _Prompt.of(lm, batch, cost)
        sum_BC = prompt.logits_BV.log_softmax(dim=-1).gather(1, tokens_BCA[..., 0])
        for some, longest in _alike(length_BC.amax(dim=0).tolist(), max(1, at_once // len(length_BC))):
            tokens_NA, mask_NA = (table[:, some, :longest].flatten(0, 1) for table in (tokens_BCA, mask_BCA))
            # The last token is predicted and predicts nothing. Padding stands at the right, where nothing sees it.
            logits_NAV = prompt.repeated(some.stop - some.start).after(tokens_NA[:, :-1], mask_NA[:, :-1], cost)
            own_NA = logits_NAV.gather(2, tokens_NA[:, 1:, None])[..., 0] - logits_NAV.logsumexp(dim=-1)
            sum_BC[:, some] += (own_NA * mask_NA[:, 1:]).sum(dim=1).view(len(length_BC), -1)
        score_BC = torch.empty_like(sum_BC).scatter_(1, order_BC, sum_BC / length_BC if length_normalised else sum_BC)
        score_BC = _tied(score_BC, titles.tokens_BCA)
    return Likelihoods(score_BC, cost)


@torch.no_grad()
def choose(lm: NextItemLM, batch: NextItemBatch, titles: Titles, *, beams: int = 1, length_normalised: bool = False) -> Named:
    """The title that the LM writes where it may write nothing but titles: greedily, or the best that ``beams`` beams find.

    At every token only those are allowed that continue some title, so an answer is a candidate; of equal titles, all of them
    are named. As many beams as there are titles find the most likely one.
    """
    search = _Among(titles, beams)
    with _clocked(titles.tokens_BCA.device) as cost:
        _search(lm, batch, search, beams, length_normalised, cost)
    return Named(search.found_BC, cost)


@torch.no_grad()
def write(
    lm: NextItemLM, batch: NextItemBatch, reader: Reader, *, beams: int = 1, length_normalised: bool = False, limit: int = 64
) -> Written:
    """What the LM writes where it may write anything, up to the end of the line or of ``limit`` tokens."""
    prompts = batch.prompts
    context = named_context(getattr(lm.model, "config", None))
    longest = int(prompts.mask_BL.sum(dim=1).max()) if len(prompts.mask_BL) else 0
    if context is not None and longest + limit > context + 1:  # the last token that is written is not read
        raise ConfigError(f"a prompt of {longest} tokens and an answer of up to {limit} do not go into the {context} tokens of "
                          "the backbone's context; lower limit or max_tokens.")
    search = _Anything(reader, len(prompts.mask_BL), limit, prompts.tokens_BL.device)
    with _clocked(prompts.tokens_BL.device) as cost:
        _search(lm, batch, search, beams, length_normalised, cost)
    return Written([reader.line(ids) for ids in search.found], cost)


def _alike(length_C: list[int], at_most: int) -> Iterator[tuple[slice, int]]:
    """Stretches of rising lengths, none over twice another, with the longest of each; titles of one token need none."""
    start = 0
    while start < len(length_C):
        stop = start + 1
        while stop < len(length_C) and stop - start < at_most and length_C[stop] <= 2 * length_C[start]:
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


@contextmanager
def _clocked(device: torch.device) -> Iterator[Cost]:
    cost, began = Cost(), time.perf_counter()
    yield cost
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
    cost.seconds = time.perf_counter() - began


@dataclass
class _Prompt:
    """Prompts that were read and what followed them, for rows that stand ``repeats`` times one after another."""

    lm: NextItemLM
    C: Any
    "C(u) of the people, without repetition."
    read: Continuation
    logits_BV: Tensor
    "After the prompts."
    repeats: int = 1

    @classmethod
    def of(cls, lm: NextItemLM, batch: NextItemBatch, cost: Cost) -> "_Prompt":
        """Compute the prompts."""
        prompts = batch.prompts
        if prompts.answer_BA is not None:
            raise ConfigError("these prompts have their answers already: ask with TitleBuilder.question.")
        C = lm.adapters.couplings(batch.user_BD)
        with lm.adapters.holding(C), full_precision(lm.model, when=lm.head):
            output = lm.run(prompts, use_cache=True, logits_to_keep=1)
        cost.tokens += prompts.tokens_BL.numel()
        return cls(lm, C, Continuation.of(lm.model, output, prompts.mask_BL, lm.head), output.logits[:, -1].float())

    def repeated(self, times: int) -> "_Prompt":
        """A copy with every row several times."""
        return _Prompt(self.lm, self.C, self.read.repeated(times), self.logits_BV, times)

    def after(self, tokens_NL: Tensor, mask_NL: Tensor, cost: Cost) -> Tensor:
        """Read on; the logits at all these places."""
        cost.tokens += tokens_NL.numel()
        with self.lm.adapters.holding(self.C, self.repeats):
            return self.read.after(tokens_NL, mask_NL)


class _Among:
    """Allows what continues a title; the titles that a beam can still become stand for a place in the trie of all."""

    def __init__(self, titles: Titles, beams: int) -> None:
        self.titles, self.beams = titles, beams
        B, C, self.limit = titles.tokens_BCA.shape
        self.length_BC = titles.mask_BCA.sum(dim=-1)
        self.alive_BKC = torch.ones(B, beams, C, dtype=torch.bool, device=titles.tokens_BCA.device)
        self.found_BC = torch.zeros(B, C, dtype=torch.bool, device=titles.tokens_BCA.device)

    def allowed(self, place: int, shape: torch.Size) -> Tensor:
        allowed_BKV = torch.zeros(shape, dtype=torch.bool, device=self.alive_BKC.device)
        row, beam, column = self.alive_BKC.nonzero(as_tuple=True)
        allowed_BKV[row, beam, self.titles.tokens_BCA[row, column, place]] = True
        return allowed_BKV

    def step(self, place: int, parent_BK: Tensor, token_BK: Tensor) -> Tensor:
        """Which beams ended with their new token."""
        B, _, C = self.alive_BKC.shape
        self.alive_BKC = self.alive_BKC.gather(1, parent_BK[..., None].expand(B, self.beams, C))
        self.alive_BKC &= self.titles.tokens_BCA[:, None, :, place] == token_BK[..., None]
        ended_BK = (self.alive_BKC & (self.length_BC == place + 1)[:, None]).any(dim=-1)
        if self.beams == 1:  # with one title left the rest is settled, and there is no other beam to compare it with
            ended_BK |= self.alive_BKC.sum(dim=-1) == 1
        return ended_BK

    def keep(self, better_B: Tensor, beam_B: Tensor, place: int) -> None:
        rows = better_B.nonzero()[:, 0]
        self.found_BC[rows] = self.alive_BKC[rows, beam_B[rows]]


class _Anything:
    """Allows all tokens."""

    def __init__(self, reader: Reader, rows: int, limit: int, device: torch.device) -> None:
        self.limit = limit
        self.ends_N = torch.tensor(reader.ends, dtype=torch.int64, device=device)
        self.written_BKA: Tensor | None = None
        self.found: list[list[int]] = [[] for _ in range(rows)]

    def allowed(self, place: int, shape: torch.Size) -> Tensor | None:
        return None

    def step(self, place: int, parent_BK: Tensor, token_BK: Tensor) -> Tensor:
        """Which beams ended with their new token."""
        if self.written_BKA is None:
            self.written_BKA = token_BK[..., None]
        else:
            before_BKA = self.written_BKA.gather(1, parent_BK[..., None].expand_as(self.written_BKA))
            self.written_BKA = torch.cat([before_BKA, token_BK[..., None]], dim=-1)
        return torch.isin(token_BK, self.ends_N) | (place + 1 == self.limit)

    def keep(self, better_B: Tensor, beam_B: Tensor, place: int) -> None:
        assert self.written_BKA is not None
        for row in better_B.nonzero()[:, 0].tolist():
            self.found[row] = self.written_BKA[row, beam_B[row]].tolist()


def _search(
    lm: NextItemLM, batch: NextItemBatch, rules: _Among | _Anything, beams: int, length_normalised: bool, cost: Cost
) -> None:
    """Beam search; with one beam it is greedy. A row's answer does not depend on the rows beside it."""
    if beams < 1:
        raise ConfigError(f"beams = {beams}; at least one is needed.")
    prompt = _Prompt.of(lm, batch, cost).repeated(beams)
    logp_BKV = prompt.logits_BV.log_softmax(dim=-1)[:, None].repeat(1, beams, 1)
    B, K, V = logp_BKV.shape
    device = logp_BKV.device
    total_BK = torch.full((B, K), -math.inf, device=device)  # of beams that are still being written
    total_BK[:, 0] = 0.0  # they begin as one
    best_B = torch.full((B,), -math.inf, device=device)
    row_BK = torch.arange(B, device=device)[:, None].expand(B, K)
    for place in range(rules.limit):
        score_BKV = total_BK[..., None] + logp_BKV
        allowed_BKV = rules.allowed(place, score_BKV.shape)
        if allowed_BKV is not None:
            score_BKV = score_BKV.masked_fill(~allowed_BKV, -math.inf)
        total_BK, which_BK = score_BKV.flatten(1).topk(K, dim=1)
        parent_BK, token_BK = which_BK // V, which_BK % V
        ended_BK = rules.step(place, parent_BK, token_BK)

        final_BK = (total_BK / (place + 1) if length_normalised else total_BK).masked_fill(~ended_BK, -math.inf)
        value_B, beam_B = final_BK.max(dim=1)
        rules.keep(value_B > best_B, beam_B, place)
        best_B = torch.maximum(best_B, value_B)
        total_BK = total_BK.masked_fill(ended_BK, -math.inf)
        if not length_normalised:  # a log-likelihood only falls, so what is behind already stays behind
            total_BK = total_BK.masked_fill(total_BK <= best_B[:, None], -math.inf)
        if place + 1 == rules.limit or not total_BK.isfinite().any():
            break
        prompt.read.reordered((row_BK * K + parent_BK).flatten())
        # A beam that has ended grows no longer: its tokens are as padding, and take no position.
        logits_NAV = prompt.after(token_BK.reshape(-1, 1), total_BK.isfinite().reshape(-1, 1), cost)
        logp_BKV = logits_NAV[:, -1].log_softmax(dim=-1).view(B, K, V)
