"""Counts what the language models of a run will read, and times a few real steps of it. Knows scorers; starts no training.

A stand-in of each system is asked: it reads the same prompts from the same samples, with plain LoRA in place of C(u) and words in
place of soft tokens, so that nothing has to be trained before. Behaviours that item vectors choose are the latest ones as long as
there are no vectors.
"""

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int

from lifelora import seeds
from lifelora.llm.cost import Cost
from lifelora.lora.coupling import Identity
from lifelora.recipe.system import Representation
from lifelora.retrieval.select import MostRecent
from lifelora.run.choice import common_samples
from lifelora.run.forecast import Forecast, Part, Step
from lifelora.run.learning import LearningAhead
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.costs import counted
from lifelora.run.scorers.language import LanguageScorer, Parents
from lifelora.run.scorers.sharing import why_apart
from lifelora.run.scorers.titles import SHARES, Titles, candidates_of
from lifelora.run.tasks.base import Task
from lifelora.scoring.budget import free_memory, token_bytes

MOST = 4_000
"""Samples whose prompts are counted; of more, those of some users are."""
SECONDS = 2.0
"""About as long is each way of a system timed."""
PLACES = (1 / 6, 1 / 2, 5 / 6)
"""Of all that is asked, by its length: where it is timed."""
MOST_TIMED = 32
"""Prompts, or trees, at each place."""
Scorer: TypeAlias = LanguageScorer[Any]
Ask: TypeAlias = Callable[[Requests], Cost]


def forecast(task: Task) -> Forecast:
    """Of all that language models have yet to do in a run whose data and backbone are ready."""
    context, device, threads = task.context, task.context.device, torch.get_num_threads()
    machine = f"{device} ({threads} thread{'s' if threads > 1 else ''})" if device.type == "cpu" else str(device)
    left = [scorer for scorer in task.scorers.values() if isinstance(scorer, LanguageScorer) and any(_left(task, scorer))]
    if not left:  # then the model is not loaded
        return Forecast([], machine, 0, None)
    parts = [part for scorer in left for part in _parts(task, scorer)]
    weights = sum(p.numel() * p.element_size() for p in context.backbone.model.parameters())
    return Forecast(parts, machine, weights, free_memory(device))


def stand_in(scorer: Scorer) -> Scorer:
    """A scorer that reads what this one will read, and is open though nothing was trained."""
    context, system = copy(scorer.context), scorer.system
    context.options = replace(context.options, trees=not _apart(scorer))
    update: dict[str, Any] = {"coupling": Identity.Config(rank=system.coupling.rank), "representation": None, "soft": None}
    update |= {"prior": None, "item_form": "text", "init_from": None, "train": "all"}
    if not (context.stages.need_vectors and context.stages.vectors.complete()):
        chosen = {key: getattr(system, key) for key in ("behaviours", "mix_with")}
        update |= {key: MostRecent.Config(k=found.k) for key, found in chosen.items() if found and found.needs_vectors}
    made: Scorer = type(scorer)(context, scorer.name, scorer.stage, system.model_copy(update=update), Parents())
    made.lm = made.untrained()
    return made


def _apart(scorer: Scorer) -> str:
    """Why its prompts share nothing; before its conventional model is trained, u counts as knowing the target if most would."""
    context, u, parent = scorer.context, scorer.system.representation, scorer.parents.representation
    if not isinstance(u, Representation) or parent is None or parent.stage.complete():
        return scorer.apart
    likely = context.recipe.task == "ctr" and u.layer != "user"
    return why_apart(scorer.system, likely, context.backbone, context.options.trees)


def _left(task: Task, scorer: Scorer) -> tuple[bool, bool, bool]:
    """Whether it has yet to be trained, to score test samples, and to score validation samples for blends."""
    stages, name = task.context.stages, scorer.name
    blends = name in stages.members and not stages.validation(name).complete()
    return not scorer.stage.complete(), not stages.scores(name).complete(), blends


def _parts(task: Task, scorer: Scorer) -> Iterator[Part]:
    stages, name = task.context.stages, scorer.name
    trains, scores, blends = _left(task, scorer)
    made, evaluation = stand_in(scorer), task.context.recipe.evaluation

    def scored(requests: Requests) -> Cost:
        return counted(made, lambda: made.score(requests))[1]

    def answered(requests: Requests) -> Cost:
        whole = Cost()
        for cost in made.answers(requests, evaluation.beams, evaluation.written_tokens).costs.values():
            whole.add(cost)
        return whole

    def on_validation(way: str, rows_N: Int[np.ndarray, "N"], times: int = 1) -> Part:
        requests = task.requests("valid", rows_N)
        whole = isinstance(made, Titles) and requests.listed_NC is None
        return asking(made, way, shortlists(made, requests) if whole else requests, scored, times)

    own, common = task.context.validation_samples(made.validation_count), common_samples(task)
    learns = made.system.train_samples != 0
    if trains and learns:
        ahead = LearningAhead.of(made)
        yield ahead.part()
        yield on_validation("validation", own, ahead.evaluations)
    if scores and len(common) and not (learns and len(own) == len(common)) and name not in stages.members:
        yield on_validation("comparison", common)
    if blends:
        yield asking(
            made, "for blends", task.requests("valid", task.context.validation_samples(stages.validation_count(name))), scored
        )
    if scores:
        requests = task.requests("test", task.context.test_samples)
        if not isinstance(made, Titles) or requests.listed_NC is not None:
            yield asking(made, "scoring", requests, scored)
        if isinstance(made, Titles) and requests.listed_NC is not None and evaluation.beams:
            yield asking(made, "answering", requests, answered)
        if isinstance(made, Titles) and scorer.retriever is not None:
            yield asking(made, "catalogue", shortlists(made, requests), scored)


def asking(made: Scorer, way: str, requests: Requests, ask: Ask, times: int = 1) -> Part:
    """All requests, so many times over; a few of them are asked."""
    count = len(requests)
    requests = _of_some_users(requests)
    all_read, most = _read(made, requests)
    group_N = _groups(made, requests)
    length_G = np.bincount(group_N, weights=made.lengths(made.asked(requests)))
    by_length = np.argsort(length_G, kind="stable")
    few = 1
    spent, read = list[Cost](), 0
    for number, place in enumerate((0.5, *PLACES)):  # the first is to find out how many
        first = max(0, min(int(place * len(by_length)) - few // 2, len(by_length) - few))
        some = requests.at(np.flatnonzero(np.isin(group_N, by_length[first : first + few])))
        cost = ask(some)
        if number:
            spent.append(cost)
            read += _read(made, some)[0]
        else:
            few = max(1, min(MOST_TIMED, len(by_length), int(SECONDS / len(PLACES) / max(cost.seconds, 1e-9))))
    # Of titles more is read than their prompts, and in proportion to them.
    tokens = sum(cost.tokens for cost in spent) * all_read / read * count / len(requests) * times
    number_bytes = token_bytes(made.context.backbone.model) * (SHARES if isinstance(made, Titles) else 1)
    longest = int(made.lengths(made.asked(requests)).max())
    return Part(
        made.name,
        way,
        count * times,
        tokens,
        [Step(cost.tokens, cost.seconds) for cost in spent],
        most * number_bytes,
        longest * number_bytes,
    )


def shortlists(made: Scorer, requests: Requests) -> Requests:
    """As the retriever will make them: the first items of the catalogue stand for those that it will choose."""
    assert made.shortlist is not None
    count = min(made.shortlist, made.context.dataset.n_items)
    return candidates_of(requests.targets, np.tile(np.arange(count), (len(requests), 1)))


def _read(made: Scorer, requests: Requests) -> tuple[int, int]:
    """The tokens of all prompts or trees of requests, as they are asked, and of the most that are asked at a time."""
    shown, tokens = made.asked(requests), list[int]()

    def count(index_B: Int[np.ndarray, "B"]) -> Int[np.ndarray, "B"]:
        cost = Cost()
        cost.read(made.batch(shown, index_B).prompts)
        tokens.append(cost.tokens)
        return index_B

    made.in_batches(shown, count, None)
    return sum(tokens), max(tokens)


def _groups(made: Scorer, requests: Requests) -> Int[np.ndarray, "N"]:
    """A number for each request, the same for those that are read together."""
    trunk_N = made.asked(requests).trunk_N
    numbers_N: np.ndarray = np.arange(len(requests)) if trunk_N is None else np.unique(trunk_N, return_inverse=True)[1].ravel()
    return numbers_N


def _of_some_users(requests: Requests) -> Requests:
    """All, or, of many, those of users drawn until there are ``MOST``."""
    if len(requests) <= MOST:
        return requests
    user_N = requests.targets.user_B
    user_U, count_U = np.unique(user_N, return_counts=True)
    order_U = seeds.generator(0, "users of an estimate").permutation(len(user_U))
    kept_U = order_U[: int(np.searchsorted(count_U[order_U].cumsum(), MOST)) + 1]
    return requests.at(np.flatnonzero(np.isin(user_N, user_U[kept_U])))
