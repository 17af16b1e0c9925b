"""The prompt of a system about one sample of a run, made without the language model. Knows a run, and how no prompt is printed.

The sample is the report's example, or one of a user, or an item that is put to a user now.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int

from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError
from lifelora.llm.item_form import form_asked
from lifelora.llm.two_tower import load_encoder
from lifelora.prompts.chat import spelled
from lifelora.prompts.lines.base import table_texts
from lifelora.prompts.pieces import Pieces, Rated, of_titles, of_towers, of_yes_no
from lifelora.prompts.told import Prompt
from lifelora.prompts.wording.fields import Texts
from lifelora.prompts.wording.yes_no import Template
from lifelora.prompts.yes_no import find_answers
from lifelora.recipe.sections import TwoTower
from lifelora.recipe.system import System
from lifelora.retrieval.select import MostRecent, Selector
from lifelora.retrieval.shuffled import IN_WORDS, SHUFFLED, shuffled
from lifelora.run.run import Run
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.seen import growing
from lifelora.run.spelling import Spelling, spelling_of
from lifelora.types import PARTS


@dataclass(frozen=True)
class Sample:
    """One request with the texts of all that it is about, by their numbers."""

    requests: Requests
    in_words: str
    rows_K: Int[np.ndarray, "K"]
    "The events that were chosen to be shown."
    words: Texts
    user: Texts
    items: dict[int, Texts]
    names: dict[int, str]

    @classmethod
    def of(cls, dataset: Dataset, requests: Requests, in_words: str, rows_K: Int[np.ndarray, "K"]) -> "Sample":
        """With the texts out of the data set."""
        numbers = np.unique(np.concatenate([dataset.item_N[rows_K], requests.candidates[0], requests.targets.item_B]))
        texts, names = table_texts(dataset.catalogue.take(numbers)), dataset.items.outside(numbers)
        user = table_texts(dataset.profiles.slice(int(requests.targets.user_B[0]), 1))[0]
        return cls(
            requests,
            in_words,
            rows_K,
            dataset.words.model_dump(),
            user,
            dict(zip(numbers.tolist(), texts, strict=True)),
            dict(zip(numbers.tolist(), names, strict=True)),
        )

    @property
    def target(self) -> tuple[int, Texts]:
        """The item in question."""
        item = int(self.requests.targets.item_B[0])
        return item, self.items[item]

    def behaviours(self, dataset: Dataset) -> list[Rated]:
        """What was chosen, as lines say it."""
        events = zip(dataset.item_N[self.rows_K].tolist(), dataset.rating_N[self.rows_K].tolist(), strict=True)
        return [(item, self.items[item], dataset.levels[code]) for item, code in events]


def prompt(run: Run, system: str | None = None, user: str | None = None, item: str | None = None) -> Prompt:
    """What a system (the first one, where none is named) reads about a sample.

    Raises ConfigError for a system that reads no prompt and for a user without samples, DataError for unknown ids.
    """
    name, config = _named(run, system)
    requests, in_words = _asked(run, user, item)
    selector, how = _selector(run, config)
    control = config.control if isinstance(config, System) else None
    dataset = run.context.in_prompts(control)
    chosen_1K, mask_1K = selector.select(dataset, requests.targets)
    sample = Sample.of(dataset, requests, in_words, chosen_1K[0][mask_1K[0]])
    if isinstance(config, TwoTower):
        soft, prior, (texts, answers, ids, spelling) = None, None, _of_towers(run, name, config, sample)
    else:
        soft, prior, (texts, answers, ids, spelling) = config.soft, config.prior, _of_system(run, config, sample)
        if control == SHUFFLED:
            how = f"{how}, {IN_WORDS}"
            texts = {name: _shuffled(pieces, requests, run.recipe.seed) for name, pieces in texts.items()}
    target, told = sample.target
    return Prompt(
        name,
        dataset.users.outside(requests.targets.user_B)[0],
        sample.names[target],
        told["title"],
        in_words,
        texts,
        how,
        answers,
        ids,
        "" if soft is None else f"of {' and '.join(soft.at)}, made of vectors of '{soft.model}'",
        prior or "",
        spelling.label,
        spelling.exact,
        sample.names,
    )


Made = tuple[dict[str, Pieces], tuple[str, ...], tuple[int, ...], Spelling]
"""Texts by name, the answers, the tokens that tell them apart, and what they were tokenised by."""


def _of_towers(run: Run, name: str, config: TwoTower, sample: Sample) -> Made:
    dataset, encoder = run.context.dataset, load_encoder(config, f"two_towers.{name}.path", run.context.options.download)
    most = min(config.max_tokens, encoder.context, encoder.tokenizer.model_max_length)
    template, shown = config.template.leaving_out(dataset.left_out), sample.behaviours(dataset)
    user, item = of_towers(template, encoder.tokenizer, sample.words, sample.user, shown, sample.target, most)
    return {"user": user, "item": item}, (), (), Spelling(encoder.tokenizer, encoder.context, encoder.label)


def _of_system(run: Run, config: System, sample: Sample) -> Made:
    asks = config.template if run.recipe.task == "ctr" else config.titles
    dataset, spelling = run.context.in_prompts(config.control), spelling_of(run.context, asks)
    if asks.chat and not spelling.exact:
        asks = asks.model_copy(update={"chat": False})
        spelling = replace(spelling, label=f"{spelling.label}; so the prompt stands in no chat template")
    most, shown = min(config.max_tokens, spelling.context), sample.behaviours(dataset)
    at = () if config.soft is None else config.soft.at
    if isinstance(asks, Template):
        template, tokenizer = asks.leaving_out(dataset.left_out), spelling.tokenizer
        found = find_answers(tokenizer, template)
        made = of_yes_no(template, tokenizer, sample.words, sample.user, shown, sample.target, most, at, found.shared)
        by, (own,) = spelled([template], tokenizer, template)
        return {"prompt": made}, (by.plain(own.words[0]), by.plain(own.words[1])), (found.yes, found.no), spelling
    listed = [(one, sample.items[one]) for one in sample.requests.candidates[0].tolist()] if config.candidates_in_prompt else None
    phrasing = asks.phrasings[0].leaving_out(dataset.left_out)
    made = of_titles(
        phrasing,
        spelling.tokenizer,
        sample.words,
        [(one, texts) for one, texts, _ in shown],
        listed,
        table_texts(dataset.catalogue.select(["title"])) if listed is None else [texts for _, texts in listed],
        most,
        form_asked(config.item_form),
        at,
        asks,
    )
    by, (said,) = spelled([phrasing], spelling.tokenizer, asks)
    return {"prompt": made}, (by.plain(said.answer_line(sample.words, sample.target[1])),), (), spelling


def _shuffled(prompt: Pieces, requests: Requests, seed: int) -> Pieces:
    """With the behaviours that found room in the order that is drawn for them."""
    places = np.array([place for place, piece in enumerate(prompt.pieces) if piece.what == "behaviour"], np.int64)
    drawn, _ = shuffled((places[None], np.ones((1, len(places)), np.bool_)), requests.targets, seed)
    order = np.arange(len(prompt.pieces))
    order[places] = drawn[0]
    return replace(prompt, pieces=tuple(prompt.pieces[place] for place in order))


def _named(run: Run, system: str | None) -> tuple[str, System | TwoTower]:
    recipe = run.recipe
    reading: dict[str, System | TwoTower] = {**recipe.systems, **recipe.two_towers}
    if not reading:
        raise ConfigError(f"recipe '{recipe.name}' has no system that reads a prompt; add a [systems.NAME].")
    if system is None:
        return next(iter(reading.items()))
    if system not in reading:
        what = "is no system of this recipe"
        for kind, named in (("a conventional model", recipe.conventional), ("a blend", recipe.blends)):
            what = f"is {kind}, which reads no prompt" if system in named else what
        raise ConfigError(f"'{system}' {what}; those that read one are {', '.join(reading)}.")
    return system, reading[system]


def _selector(run: Run, config: System | TwoTower) -> tuple[Selector, str]:
    """What chooses behaviours, and in words how; without item vectors, which ``embed`` makes, the latest stand in."""
    grown = growing(config) if isinstance(config, System) else None
    if grown is not None:
        return grown, grown.in_words()
    selector = config.behaviours
    if not selector.needs_vectors or run.context.stages.vectors.lacking() is None:
        return run.context.selector(selector), selector.in_words()
    count = sum(int(getattr(selector, key, 0)) for key in ("k", "similar", "recent")) or MostRecent.Config().k
    return run.context.selector(MostRecent.Config(k=count)), (
        f"the {count} latest, in place of {selector.in_words()}: these need item vectors, which a run makes"
    )


def _asked(run: Run, user: str | None, item: str | None) -> tuple[Requests, str]:
    """A request, and in words what it is."""
    dataset, task = run.context.dataset, run.task
    known = None if user is None else int(dataset.users.inside([user])[0])
    wanted = None if item is None else int(dataset.items.inside([item])[0])
    if wanted is None and known is None:
        return task.requests("test", np.array([task.example_sample()])), "the test sample of the report's example"
    if wanted is None:
        for part in PARTS[::-1]:
            rows = np.asarray(dataset.samples[part])
            own = rows[dataset.targets(rows).user_B == known]
            if len(own):
                return task.requests(part, own[-1:]), f"their last sample, of part '{part}'"
        raise ConfigError(
            f"user '{user}' has no sample (data.rules.min_history and data.rules.split make them); name an item, too: --item."
        )
    example = task.requests("test", np.array([task.example_sample()]))
    asked = task.now(int(example.targets.user_B[0]) if known is None else known, np.array([wanted]))
    if example.listed_NC is None:
        return asked, "asked now, after all that they did"
    listed_1C = example.listed_NC.copy()
    if wanted not in listed_1C:
        listed_1C[listed_1C == example.targets.item_B[0]] = wanted
    return Requests(asked.targets, listed_1C), "asked now, after all that they did, among the candidates of the report's example"
