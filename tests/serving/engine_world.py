"""Runs with a scorer of every kind, small and quick: conventional models are trained, language models have drawn weights."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.scorers.blend import BlendScorer
from lifelora.run.scorers.language import LanguageScorer
from lifelora.run.scorers.two_tower import TwoTowerScorer
from lifelora.run.scorers.weights import Fitted
from lifelora.serving.engine import Engine
from tiny_bert import saved_bert

OPTIONS = Options(device="cpu", progress=False)
TRAINING = {"batch_size": 32, "epochs": 1, "learning_rate": 2e-3}
SIZES = {"embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
DIN = {"model": {"kind": "din", **SIZES, "attention_hidden": 4}, "training": TRAINING}
SASREC = {"model": {"kind": "sasrec", **SIZES}, "training": TRAINING}
BACKBONE = {"kind": "nano", "width": 16, "layers": 2, "heads": 2, "vocabulary": 400, "training": {"batch_size": 32, "epochs": 1}}
DATA = {"source": {"kind": "simulated", "users": 24, "items": 60, "events_per_user": 14}}
U, QUESTION = {"representation": {"model": "sasrec"}}, {"coupling_on": "question"}
OWN = {"behaviours": {"kind": "most-recent", "k": 4}, "dropout": 0.0, "train_samples": 16, "validation_samples": 8}
GROWING = OWN | {"behaviours": {"kind": "most-recent", "k": 2}, "history": "growing", "block": 3}


def coupling(kind: str, **keys: Any) -> dict[str, Any]:
    return {"coupling": {"kind": kind, "rank": 2, **keys}}


YES_NO: dict[str, dict[str, Any]] = {
    "identity": OWN | coupling("identity"),
    "long": OWN | coupling("identity") | {"behaviours": {"kind": "most-recent", "k": 40}},
    "static": OWN | coupling("static"),
    "experts": OWN | U | coupling("experts", experts=2),
    "meta": OWN | U | coupling("meta", loras=2),
    "hydra": OWN | U | coupling("hydra", heads=2),
    "full": OWN | U | coupling("full"),
    "by-token": OWN | U | coupling("meta", loras=2, gate="token"),
    "joint": OWN | coupling("full") | {"representation": {"model": "sasrec", "train": "joint"}},
    "question": OWN | U | QUESTION | coupling("full"),
    "din-question": OWN | QUESTION | coupling("full") | {"representation": {"model": "din"}},
    "din-prompt": OWN | coupling("full") | {"representation": {"model": "din"}},
    "similar": OWN | U | coupling("full") | {"behaviours": {"kind": "most-similar", "k": 3}},
    "soft": OWN | U | coupling("full") | {"soft": {"model": "sasrec", "at": ["behaviours", "target", "user"]}},
    "cut": OWN | coupling("identity") | {"behaviours": {"kind": "most-recent", "k": 9}, "max_tokens": 90},
    "prior": OWN | U | coupling("full") | {"prior": "din"},
    "growing": GROWING | coupling("identity"),
    "growing-full": GROWING | U | coupling("full"),
    "growing-question": GROWING | U | QUESTION | coupling("full"),
    "growing-soft": GROWING | U | coupling("experts", experts=2) | {"soft": {"model": "sasrec", "at": ["behaviours", "user"]}},
}
TITLES: dict[str, dict[str, Any]] = {
    "titles": OWN | U | coupling("full") | {"retriever": "sasrec", "shortlist": 12},
    "unlisted": OWN | U | coupling("full") | {"candidates_in_prompt": False, "retriever": "sasrec", "shortlist": 12},
    "unlisted-question": OWN | U | QUESTION | coupling("hydra", heads=2) | {"candidates_in_prompt": False},
    "titles-growing": GROWING | coupling("static"),
    "titles-growing-full": GROWING | U | coupling("full") | {"candidates_in_prompt": False},
    "titles-growing-question": GROWING | U | QUESTION | coupling("full"),
    "titles-soft": OWN
    | coupling("identity")
    | {"item_form": "hybrid", "soft": {"model": "sasrec", "at": ["user", "behaviours"]}},
}
CTR_NAMES = ("popular", "din", "sasrec", *YES_NO, "towers", "ids", "both", "growing-both")
NEXT_NAMES = ("popular", "sasrec", "ease", "itemknn", *TITLES, "ids", "both")


def ctr(folder: Path) -> Recipe:
    """Everything that answers yes or no."""
    bert = {"path": str(saved_bert(folder / "bert")), "hidden": [8], "behaviours": {"kind": "most-recent", "k": 3}}
    return parse(
        {
            "name": "every-like",
            "data": DATA,
            "backbone": BACKBONE,
            "conventional": {"popular": {"model": {"kind": "popularity"}}, "din": DIN, "sasrec": SASREC},
            "systems": YES_NO,
            "two_towers": {"towers": bert},
            "blends": {
                "ids": {"of": ["popular", "din"]},
                "both": {"of": ["din", "full"]},
                "growing-both": {"of": ["sasrec", "growing-full", "similar"]},
            },
            "evaluation": {"test_samples": 8, "resamples": 100},
        },
        "the test",
    )


def next_items(_: Path) -> Recipe:
    """Everything that says what comes next."""
    return parse(
        {
            "name": "every-next",
            "task": "next-item",
            "data": DATA | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 5}}},
            "backbone": BACKBONE | {"template": {"kind": "next-item"}},
            "conventional": {
                "popular": {"model": {"kind": "popularity"}},
                "sasrec": SASREC,
                "ease": {"model": {"kind": "ease"}},
                "itemknn": {"model": {"kind": "itemknn"}},
            },
            "systems": TITLES,
            "blends": {"ids": {"of": ["popular", "sasrec"]}, "both": {"of": ["sasrec", "titles"]}},
            "evaluation": {"test_samples": 8, "resamples": 100, "written_tokens": 0},
        },
        "the test",
    )


@contextmanager
def held(engine: Engine) -> Iterator[None]:
    """The worker waits, so that whatever is asked inside waits together."""
    gate, there = threading.Event(), threading.Event()

    def wait() -> None:
        there.set()
        gate.wait(60)

    done = engine._worker.do(wait)
    there.wait(60)
    try:
        yield
    finally:
        gate.set()
        done.result(60)


def made(recipe: Recipe, folder: Path) -> Path:
    """The folder of a run in which all is trained but what reads words."""
    run = Run(recipe, folder, OPTIONS)
    run.prepare()
    run._ready_backbone()
    if run.stages.need_vectors:
        run.embed()
    run.fit()
    return folder


def opened(folder: Path, options: Options = OPTIONS) -> Run:
    """Opened anew, with drawn weights in what is not trained: the same every time, and large enough to change answers."""
    run = Run.open(folder, options)
    for scorer in run.scorers.values():
        torch.manual_seed(1)
        if isinstance(scorer, LanguageScorer):
            scorer.lm = scorer.untrained().eval()
            learnt = [*scorer.lm.adapters.parameters(), *(scorer.lm.soft.parameters() if scorer.lm.soft else ())]
            for parameter in learnt:
                torch.nn.init.normal_(parameter, std=0.5)
            if getattr(scorer.lm, "prior", None) is not None:
                scorer.lm.prior.a.data.fill_(0.07)
        if isinstance(scorer, TwoTowerScorer):
            scorer.model = scorer.untrained[0].eval()
        if isinstance(scorer, BlendScorer):
            weights = tuple((0.5 + np.arange(len(scorer.members)) / 3).tolist())
            scorer.weights = Fitted(0.1 if run.recipe.task == "ctr" else 0.0, weights, (1.0,) * len(weights), 8)
    return run


def offline(run: Run, name: str, user: str, items: list[str]) -> np.ndarray:
    """What a scorer says of items, put to a user alone, as evaluation and `recommend` put them."""
    dataset = run.context.dataset
    number = int(dataset.users.inside([user])[0])
    return run.scorers[name].score(run.task.now(number, dataset.items.inside(items).astype(np.int64))).ravel()
