"""What order and words are worth: a system minus its control, its sign, its sentence, and controls that are nobody's best."""

import math

import numpy as np

from lifelora.evaluation.jackknife import Scored
from lifelora.evaluation.measured import CONTROL, Validated
from lifelora.evaluation.report import Report, SystemResult, measure, plain_table, summary
from lifelora.evaluation.significance import Difference
from lifelora.evaluation.worth import Control, Worth, worth_in_words, worth_table

USERS, EACH = 60, 20


def report(controls: list[Control]) -> Report:
    """Scores that know the label well, a little, and not at all."""
    random = np.random.default_rng(0)
    label_N = random.random(USERS * EACH) < 0.5
    noise = {"lora": 0.5, "shuffled": 1.0, "ids": 50.0, "din": 1.0}
    scores = {name: 1 / (1 + np.exp(-(label_N - 0.5) / of - random.normal(size=len(label_N)))) for name, of in noise.items()}
    families = {"din": "conventional", "lora": "language model", "shuffled": CONTROL, "ids": CONTROL}
    return Report(
        title="worth",
        facts=[],
        systems=[SystemResult(name, families[name], "", scores[name]) for name in ("din", "lora", "shuffled", "ids")],
        user_N=np.repeat(np.arange(USERS), EACH),
        item_N=random.integers(0, 50, len(label_N)),
        label_N=label_N,
        history_N=np.tile(np.arange(EACH), USERS),
        reference="lora",
        draws=100,
        validated=Validated({"din": 0.6, "lora": 0.7, "shuffled": 0.8, "ids": 0.9}, 100),
        controls=controls,
    )


def pairs(scored: Scored) -> float:
    """The share of (positive, negative) pairs in the right order."""
    yes, no = scored.score_N[scored.label_N], scored.score_N[~scored.label_N]
    return float((yes[:, None] > no).mean())


def test_each_control_is_taken_from_its_system_and_not_the_other_way_round() -> None:
    told = report([Control("lora", "shuffled", "order"), Control("lora", "ids", "words")])
    measured = measure(told)
    auc = {s.name: pairs(Scored(told.user_N, told.item_N, told.label_N, s.score_N)) for s in told.systems}
    for one in measured.worth:
        found = one.differences["auc"]
        assert math.isclose(found.value, auc[one.system] - auc[one.control], abs_tol=1e-12)
        assert found.low < found.value < found.high
        assert found.users == USERS
    assert [one.lacks for one in measured.worth] == ["order", "words"]
    text = plain_table(measured)
    assert "What order and words are worth:\n" in text
    assert "order: lora minus shuffled" in text
    assert any(sentence.startswith("Words are worth .") and "to lora (95 % ." in sentence for sentence in summary(measured))
    assert measured.deciding is not None
    assert measured.deciding.system == "lora", "a control is not the best language-model system, however good it is"


def test_without_a_control_nothing_is_said_of_it() -> None:
    measured = measure(report([]))
    assert measured.worth == ()
    assert "worth" not in plain_table(measured)
    assert not [sentence for sentence in summary(measured) if "worth" in sentence]
    assert worth_table([], {"auc": "AUC"}, 110) == []


def told_of(low: float, value: float, high: float) -> str:
    difference = Difference(value, low, high, 400, 30, 29.0, 0.5)
    (sentence,) = worth_in_words([Worth("lora", "ids", "words", {"auc": difference})], "auc", "AUC")
    return sentence


def test_a_sentence_says_whether_the_difference_is_clear() -> None:
    paired = "paired with ids over 30 users)."
    assert told_of(0.01, 0.02, 0.03) == f"Words are worth .020 AUC to lora (95 % .010 to .030, {paired}"
    assert told_of(-0.01, 0.02, 0.05) == f"Words are worth nothing clear: .020 AUC to lora (95 % −.010 to .050, {paired}"
    assert told_of(-0.03, -0.02, -0.01) == f"Words are worth less than nothing: −.020 AUC to lora (95 % −.030 to −.010, {paired}"
    assert told_of(math.nan, 0.02, math.nan) == "Words are worth .020 AUC to lora, over 30 users; not tested."
