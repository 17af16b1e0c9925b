"""What a thing adds to what it is made of: which pairs, which of them answers, what is said, in text, page and JSON."""

from dataclasses import replace

import numpy as np
import pytest

from lifelora.evaluation.added import Added, added, added_table, answers
from lifelora.evaluation.groups import never_seen
from lifelora.evaluation.jackknife import Jackknifed, Rows, jackknife_means
from lifelora.evaluation.measured import Validated, figures
from lifelora.evaluation.page import render
from lifelora.evaluation.report import Report, SystemResult, measure, plain_table, summary
from lifelora.evaluation.significance import Difference, paired_test

FAMILIES = {"din": "conventional", "sasrec": "conventional", "lora": "language model", "both": "blend", "ids": "blend"}
SHARES = {"din": 0.3, "sasrec": 0.5, "lora": 0.2, "both": 0.6, "ids": 0.5}
PAIRS = [("both", "lora"), ("both", "din"), ("both", "sasrec"), ("ids", "din"), ("ids", "sasrec")]
VALIDATED = Validated({"din": 0.8, "sasrec": 0.7, "lora": 0.9, "both": 0.9, "ids": 0.8}, 300)
"Of test, sasrec is the better one, so that a choice by test would show."


@pytest.fixture(scope="module")
def found() -> dict[str, Jackknifed]:
    random = np.random.default_rng(0)
    user_N = np.repeat(np.arange(40), 5)
    hits = {name: (random.random(200) < share).astype(np.float64) for name, share in SHARES.items()}
    return {name: jackknife_means(Rows(user_N, {"hr@1": hit_N}, "rows")) for name, hit_N in hits.items()}


def test_each_pair_is_tested_and_the_best_conventional_part_by_validation_answers(found: dict[str, Jackknifed]):
    some = added(found, PAIRS, FAMILIES, VALIDATED)
    assert [(one.name, one.against) for one in some] == PAIRS
    assert [one.differences for one in some] == [paired_test(found[name], found[part]) for name, part in PAIRS]
    assert [one.against for one in some if one.words] == ["din"]  # of 'both' alone: 'ids' has no words


def test_without_validation_nothing_says_which_is_the_best_and_an_only_one_needs_none(found: dict[str, Jackknifed]):
    assert not any(one.words for one in added(found, PAIRS, FAMILIES, None))
    assert [one.words for one in added(found, PAIRS[:2], FAMILIES, None)] == [False, True]
    prior = added(found, [("lora", "sasrec")], FAMILIES, None)  # a system that has a conventional model in it
    assert [one.words for one in prior] == [True]
    assert not added(found, [], FAMILIES, None)
    assert not any(one.words for one in added(found, PAIRS, FAMILIES | {"lora": "control"}, VALIDATED))  # it lacks the words
    assert any(one.words for one in added(found, PAIRS, FAMILIES | {"lora": "two towers"}, VALIDATED))


def one(value: float, low: float, high: float, users: int = 143) -> Added:
    return Added("both", "din", True, {"auc": Difference(value, low, high, 996, users, 40.0, 0.01)})


@pytest.mark.parametrize(
    ("some", "said"),
    [
        (
            one(0.0065, 0.0016, 0.0121),
            "Yes: both minus din, the best conventional model in it, is .0065 AUC (95 % .0016 to .0121, paired",
        ),
        (one(-0.0065, -0.0121, -0.0016), "No, they harm: both minus din, the best conventional model in it, is −.0065 AUC"),
        (
            one(0.0006, -0.001, 0.0023),
            "Not clearly: both minus din, the best conventional model in it, is .0006 AUC (95 % −.0010",
        ),
        (
            one(0.01, float("nan"), float("nan"), 4),
            "Not tested: both minus din, the best conventional model in it, is .0100 AUC over 4",
        ),
        (one(float("nan"), float("nan"), float("nan")), "That cannot be said: AUC of both or din is undefined"),
    ],
)
def test_the_answer_in_a_sentence(some: Added, said: str):
    (answer,) = answers([some], "auc", "AUC")
    assert answer.startswith(f"Do the words add anything? {said}")
    assert answers([replace(some, words=False)], "auc", "AUC") == []


def test_the_answer_says_what_words_add_on_items_that_were_never_seen():
    (answer,) = answers([one(0.0065, 0.0016, 0.0121)], "auc", "AUC", [one(0.0247, 0.0126, 0.0428)])
    assert answer.endswith(" Of items never seen in training: .0247 (95 % .0126 to .0428; n = 996).")


def test_the_table_has_each_pair():
    table = "\n".join(added_table([one(0.0065, 0.0016, 0.0121)], {"auc": "AUC", "gauc": "GAUC"}, 110))
    assert table.splitlines()[0].split() == ["Δ", "AUC"]
    assert "both minus din  .0065 [.0016, .0121]  p = .010" in table
    assert added_table([], {"auc": "AUC"}, 110) == []


def test_the_report_tells_it_on_items_that_were_never_seen_too():
    """Words know the items that training lacks, the model of ids those that it has; the blend knows both."""
    random = np.random.default_rng(1)
    n = 1200
    label_N, events_N = random.integers(0, 2, n), np.where(np.arange(n) % 3 == 0, 0, 50)
    knows = {"din": events_N > 0, "lora": events_N == 0, "both": np.ones(n, np.bool_)}
    noise_N = random.normal(size=n)
    scores = {name: 1 / (1 + np.exp(-(noise_N + 1.5 * known_N * (2 * label_N - 1)))) for name, known_N in knows.items()}
    systems = [SystemResult(name, FAMILIES[name], "", score_N) for name, score_N in scores.items()]
    report = Report(
        "blend",
        [],
        systems,
        np.arange(n) % 40,
        np.arange(n),
        label_N,
        np.arange(n) % 7,
        "lora",
        target_events_N=events_N,
        pairs=[("both", "din"), ("both", "lora")],
        draws=100,
    )
    measured = measure(report)
    (never,) = [x for x in never_seen(measured.groups) if x.against == "din"]
    assert never.differences["auc"].n == 400
    assert never.differences["auc"].value > measured.added[0].differences["auc"].value > 0
    said = summary(measured)
    assert any(sentence.startswith("Do the words add anything? Yes: both minus din") for sentence in said)
    text = " ".join(plain_table(measured).split())
    assert "Do the words add anything? Yes" in text
    assert "Δ AUC by events of the target in training: never seen" in text
    page, _ = render(report, measured)
    assert "minus din, the best conventional model in it" in page
    assert "Δ AUC by events of the target in training" in page
    kept = figures(measured)
    assert [(x["name"], x["against"], x["words"]) for x in kept["added"]] == [("both", "din", True), ("both", "lora", False)]
    assert kept["groups"]["popularity"]["groups"][0]["added"][0]["differences"]["auc"]["value"] == never.differences["auc"].value
