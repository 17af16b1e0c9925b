"""The title that the LM answers with, held to the candidates or free, greedily or by beams. Knows tokens, no data set."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.llm.context import named_context
from lifelora.llm.cost import Cost, clocked
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.reading import Reader
from lifelora.llm.shared_prompt import MAX_TOKENS, SharedPrompt
from lifelora.llm.titles import TitleLM
from lifelora.prompts.fill import Prompts
from lifelora.prompts.titles import Titles


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
def choose(
    lm: TitleLM,
    batch: PersonalBatch,
    titles: Titles,
    *,
    beams: int = 1,
    length_normalised: bool = False,
    max_tokens: int = MAX_TOKENS,
) -> Named:
    """The title that the LM writes where it may write nothing but titles: greedily, or the best that ``beams`` beams find.

    At every token only those are allowed that continue some title, so an answer is a candidate; of equal titles, all of them
    are named. As many beams as there are titles find the most likely one. ``max_tokens`` is as in ``likelihoods``.
    """
    named_BC = torch.zeros(titles.mask_BCA.shape[:2], dtype=torch.bool, device=titles.tokens_BCA.device)
    with clocked(titles.tokens_BCA.device) as cost:
        prompt = _prompt(lm, batch, beams, cost)
        for part in prompt.parts(beams, titles.mask_BCA.shape[2], max_tokens):
            found = _Among(Titles(titles.tokens_BCA[part], titles.mask_BCA[part]), beams)
            _search(prompt.repeated(beams, part), found, beams, length_normalised, cost)
            named_BC[part] = found.found_BC
    return Named(named_BC, cost)


@torch.no_grad()
def write(
    lm: TitleLM,
    batch: PersonalBatch,
    reader: Reader,
    *,
    beams: int = 1,
    length_normalised: bool = False,
    limit: int = 64,
    max_tokens: int = MAX_TOKENS,
) -> Written:
    """What the LM writes where it may write anything, up to the end of the line or of ``limit`` tokens."""
    prompts = batch.prompts
    assert isinstance(prompts, Prompts)
    context = named_context(getattr(lm.model, "config", None))
    longest = int(prompts.mask_BL.sum(dim=1).max()) if len(prompts.mask_BL) else 0
    if context is not None and longest + limit > context + 1:  # the last token that is written is not read
        raise ConfigError(
            f"a prompt of {longest} tokens and an answer of up to {limit} do not fit into the {context} tokens of "
            "the backbone's context; lower limit or max_tokens."
        )
    lines = list[str]()
    with clocked(prompts.tokens_BL.device) as cost:
        prompt = _prompt(lm, batch, beams, cost)
        for part in prompt.parts(beams, limit, max_tokens):
            found = _Anything(reader, part.stop - part.start, limit, prompts.tokens_BL.device)
            _search(prompt.repeated(beams, part), found, beams, length_normalised, cost)
            lines += [reader.line(ids) for ids in found.found]
    return Written(lines, cost)


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


def _prompt(lm: TitleLM, batch: PersonalBatch, beams: int, cost: Cost) -> SharedPrompt:
    if beams < 1:
        raise ConfigError(f"beams = {beams}; at least one is needed.")
    return SharedPrompt.of(lm, batch, cost)


def _search(prompt: SharedPrompt, rules: _Among | _Anything, beams: int, length_normalised: bool, cost: Cost) -> None:
    """Beam search over rows that stand ``beams`` times; with one beam it is greedy. A row's answer is its own alone."""
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
