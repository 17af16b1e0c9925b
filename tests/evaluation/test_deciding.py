"""The deciding number: which two systems it is about, and what it says of them; of validation, never of test."""

from dataclasses import replace

import numpy as np
import pytest

from lifelora.evaluation.jackknife import Jackknifed, Rows, jackknife_means
from lifelora.evaluation.measured import Deciding, Measured, Validated, decided, deciding, figures
from lifelora.evaluation.significance import Difference, paired_test

FAMILIES = {
    "popularity": "conventional",
    "din": "conventional",
    "ctr-bert": "two towers",
    "lora": "language model",
    "personal": "language model",
}
VALIDATED = Validated({"popularity": 0.6, "din": 0.7, "ctr-bert": 0.99, "lora": 0.8, "personal": 0.75}, 300)


@pytest.fixture(scope="module")
def found() -> dict[str, Jackknifed]:
    """On test the others of each family are better, so that a choice by test would show."""
    random = np.random.default_rng(0)
    share = {"popularity": 0.7, "din": 0.3, "ctr-bert": 0.9, "lora": 0.5, "personal": 0.8}
    user_N = np.repeat(np.arange(40), 5)
    hits = {name: (random.random(200) < p).astype(np.float64) for name, p in share.items()}
    return {name: jackknife_means(Rows(user_N, {"hr@1": hit_N}, "rows")) for name, hit_N in hits.items()}


def test_the_best_on_validation_of_each_family_are_set_against_each_other(found: dict[str, Jackknifed]):
    one = deciding(found, FAMILIES, VALIDATED, "hr@1")
    assert one is not None
    assert (one.system, one.conventional, one.validation_samples) == ("lora", "din", 300)
    assert one.differences == paired_test(found["lora"], found["din"])
    assert one.differences["hr@1"].low < 0.2 < one.differences["hr@1"].high  # .5 and .3, as they were drawn


def test_without_a_language_model_or_a_conventional_model_there_is_none(found: dict[str, Jackknifed]):
    for family in ("language model", "conventional"):
        some = {name: one for name, one in found.items() if FAMILIES[name] != family}
        assert deciding(some, FAMILIES, VALIDATED, "hr@1") is None


def test_what_nothing_chooses_between_decides_nothing_and_the_only_ones_need_no_validation(found: dict[str, Jackknifed]):
    assert deciding(found, FAMILIES, None, "hr@1") is None
    assert deciding(found, FAMILIES, Validated(dict.fromkeys(FAMILIES, float("nan")), 0), "hr@1") is None
    only = {name: found[name] for name in ("din", "lora")}
    one = deciding(only, FAMILIES, None, "hr@1")
    assert one is not None
    assert (one.system, one.conventional) == ("lora", "din")


def test_a_system_whose_validation_is_not_known_is_never_the_best(found: dict[str, Jackknifed]):
    unknown = replace(VALIDATED, auc={**VALIDATED.auc, "lora": float("nan")})
    one = deciding(found, FAMILIES, unknown, "hr@1")
    assert one is not None
    assert one.system == "personal"


HOW = "each the best on the same 300 validation samples"
OTHER = "the best conventional model"


@pytest.mark.parametrize(
    ("value", "low", "high", "users", "sentence"),
    [
        (
            0.012,
            0.004,
            0.02,
            60,
            f"is better than {OTHER}: a minus b is .012 AUC (95 % .004 to .020, paired over 60 users; {HOW}).",
        ),
        (
            -0.01,
            -0.02,
            -0.004,
            60,
            f"is worse than {OTHER}: a minus b is −.010 AUC (95 % −.020 to −.004, paired over 60 users; {HOW}).",
        ),
        (
            *(0.001, -0.002, 0.004, 60),
            f"and {OTHER} do not differ clearly: a minus b is .001 AUC (95 % −.002 to .004, paired over 60 users; {HOW}).",
        ),
        (
            *(0.1, np.nan, np.nan, 9),
            f"and {OTHER} are not tested: a minus b is .100 AUC over 9 users ({HOW}), and at least 10 users are needed.",
        ),
        (np.nan, np.nan, np.nan, 60, f"(a) and {OTHER} (b) cannot be compared: AUC is undefined on these samples."),
    ],
)
def test_the_sentence(value: float, low: float, high: float, users: int, sentence: str):
    difference = Difference(value, low, high, 600, users, 20.0, 0.03)
    one = Deciding("a", "b", "auc", {"a": 0.7, "b": 0.6}, 300, {"auc": difference})
    measured = Measured(
        rows=600, users=users, rows_hash="", seed=0, reference="a", systems={}, seconds={}, costs={}, against={}, deciding=one
    )
    assert decided(measured, "AUC") == [f"The best language-model system {sentence}"]
    assert decided(replace(measured, deciding=None), "AUC") == []
    assert figures(measured)["deciding"]["system"] == "a"
