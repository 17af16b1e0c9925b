"""The report: what it measures, what it says, and that it is one safe file that is the same each time."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from lifelora.errors import UNSAFE, ConfigError
from lifelora.evaluation.costs import Cost
from lifelora.evaluation.groups import history_buckets
from lifelora.evaluation.measured import Curves, figures, verdict
from lifelora.evaluation.metrics import HIGHER_IS_BETTER, auc, expected_calibration_error
from lifelora.evaluation.page import write_report
from lifelora.evaluation.report import (
    NAMES,
    Behaviour,
    ExampleUser,
    Report,
    Shown,
    SystemResult,
    measure,
    plain_table,
    summary,
)
from lifelora.evaluation.significance import ENOUGH_USERS, Difference
from lifelora.evaluation.tables import duration, p_value, short, span

EVIL = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def report():
    random = np.random.default_rng(0)
    n = 600
    user_N = np.sort(random.integers(0, 60, n))
    taste_N = random.normal(0, 1.5, n)
    label_N = random.random(n) < 1 / (1 + np.exp(-taste_N))
    near_N, far_N = (1 / (1 + np.exp(-taste_N - random.normal(0, noise, n))) for noise in (0.3, 6.0))
    curves = Curves([(step / 50, 0.7 - step / 1000) for step in range(100)], [(1.0, 0.6), (2.0, 0.7)])
    systems = [
        SystemResult("far $x_1$", "conventional", "little", far_N.astype(np.float32), None, 0.01),
        SystemResult(f"near {EVIL}", "language model", f"much {EVIL}", near_N, curves, 71.0),
    ]
    example = ExampleUser(
        "u & v",
        [("age", EVIL)],
        [Shown("most recent", [Behaviour(EVIL, "5 stars")])],
        f"target {EVIL}",
        True,
        {"far $x_1$": 0.4, f"near {EVIL}": 0.9},
    )
    return Report(
        f"Title {EVIL}",
        [("data", EVIL)],
        systems,
        user_N,
        random.integers(0, 30, n),
        label_N,
        random.integers(5, 90, n),
        "far $x_1$",
        best_possible_auc=0.9,
        example=example,
        notes=[EVIL],
        commands=[("again", f"lifelora demo {EVIL}")],
        seed=3,
        draws=60,
    )


@pytest.fixture(scope="module")
def measured(report):
    return measure(report)


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def html(report, measured, tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("run"), report, measured).read_text()


def test_measured_figures_are_the_metrics_of_the_rows(report, measured):
    for system in report.systems:
        assert measured.systems[system.name]["auc"].value == auc(report.label_N, system.score_N)
    assert sum(group.rows for group in measured.groups["history"].groups) == len(report.label_N)
    assert list(measured.against) == [report.systems[1].name]
    assert measured.against[report.systems[1].name]["auc"].low > 0


def test_history_buckets_share_the_rows_and_leave_no_gap():
    assert history_buckets(np.arange(1, 101)) == [(1, 20), (21, 40), (41, 60), (61, 80), (81, 100)]
    assert history_buckets(np.array([7, 7, 7])) == [(7, 7)]
    assert history_buckets(np.array([5] * 9 + [80])) == [(5, 5), (6, 80)]


def test_texts_from_outside_are_escaped_everywhere(html):
    page = Page(html)
    assert "script" not in page.tags
    assert html.count("&lt;script&gt;") >= 10
    assert any(f"Title {EVIL}" in text for text in page.texts)
    assert EVIL in "".join(page.texts)


def test_texts_from_outside_give_no_orders_to_what_shows_them(report, tmp_path):
    """Escaping leaves control characters and marks that turn the direction of writing as they are."""
    order = "\x1b[31m\x00\u202eflow\x9b2J<b>"
    shown = [Shown(order, [Behaviour(order, order)])]
    example = replace(report.example, user=order, facts=[(order, order)], shown=shown, target=order)
    page = write_report(
        tmp_path, replace(report, title=order, facts=[(order, order)], example=example, notes=[order], commands=[(order, order)])
    ).read_text()
    assert not UNSAFE.search(page)
    assert page.count(r"\u001b[31m\u0000\u202eflow\u009b2J&lt;b&gt;") >= 10


def test_the_page_asks_the_network_for_nothing(html):
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    linked = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "data", "srcset")]
    assert linked
    assert all(value.startswith("#") for value in linked)
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]{1})", html)) == {"#"}
    assert "default-src 'none'" in html


def test_the_ids_are_unique_and_the_links_inside_pictures_hold(html):
    page = Page(html)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    links = set(re.findall(r"url\(#([^)]+)\)", html)) | {v[1:] for k, v in page.attributes if k == "xlink:href"}
    assert links
    assert links <= set(ids)


def test_pictures_are_themed_by_css_and_names_are_not_read_as_formulas(html):
    assert "var(--system-1)" in html
    assert "var(--ink)" in html
    assert "prefers-color-scheme: dark" in html
    assert ">far $x_1$</text>" in html
    pictures = "".join(re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL))
    assert not re.search(r"#[0-9a-f]{6}\b", pictures)


def test_the_same_figures_give_the_same_bytes(report, measured, html, tmp_path):
    again = write_report(tmp_path, report, measured)
    assert again.read_text() == html
    pngs = sorted(path.name for path in (tmp_path / "figures").iterdir())
    assert pngs == [
        "auc-by-history.png",
        "auc.png",
        "calibration-0.png",
        "calibration-1.png",
        "example-scores.png",
        "learning-loss.png",
        "learning-validation.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "figures").iterdir())


def test_a_bare_report_needs_no_training_no_example_and_no_second_system(report, tmp_path):
    bare = replace(report, systems=report.systems[:1], example=None, notes=(), commands=(), best_possible_auc=None)
    html = write_report(tmp_path, bare).read_text()
    assert "How they learned" not in html
    assert "One person" not in html
    assert "far $x_1$ reaches AUC" in html


def test_one_class_is_shown_as_undefined(report, tmp_path):
    yes = replace(report, label_N=np.ones_like(report.label_N))
    measured = measure(yes)
    assert figures(measured)["systems"]["far $x_1$"]["auc"]["value"] is None
    assert "cannot be compared" in summary(measured)[0]
    assert '<td data-label="AUC">–' in write_report(tmp_path, yes, measured).read_text()


def test_figures_are_json_with_everything(report, measured):
    plain = json.loads(json.dumps(figures(measured), allow_nan=False))
    found = plain["systems"][report.systems[1].name]["auc"]
    assert set(found) == {"value", "low", "high", "n", "users", "degrees"}
    assert (found["n"], found["users"], plain["seed"], plain["draws"]) == (600, 60, 3, 60)
    assert plain["ece_as_found"]["far $x_1$"] == expected_calibration_error(report.label_N, report.systems[0].score_N)
    assert set(plain["against"][report.systems[1].name]["auc"]) == {*found, "p"}
    assert len(plain["reliability"]["far $x_1$"]["rows_G"]) == 15


def test_what_a_sample_cost_is_told_where_it_was_counted(report, measured, tmp_path):
    """Four samples a second are a quarter of a second each; what is not known is a dash, and nothing is said of nothing."""
    assert "Tokens a sample" not in plain_table(measured)
    far, near = report.systems
    costs = {"training": Cost(61.25, 0.25, 412.0), "scoring": Cost(412.0, 2.0)}
    counted = replace(report, systems=[far, replace(near, name="near", costs=costs)], reference="near", example=None)
    (block,) = [b for b in plain_table(measure(counted)).split("\n\n") if "Tokens a sample" in b]
    assert [re.split(r"  +", line) for line in block.splitlines()] == [
        ["", "Tokens a sample", "of its own prompts", "Samples a second"],
        ["near, training", "61", "412", "4.0"],
        ["near, scoring", "412", "–", "0.5"],
    ]
    page = write_report(tmp_path, counted).read_text()
    section = page[page.index("What a sample costs") : page.index("Compared with")]
    assert section.count("samples a second</small>") == 2
    assert section.count("of its own prompts 412") == 1
    assert figures(measure(counted))["costs"] == {
        far.name: {},
        "near": {
            "training": {"tokens": 61.25, "seconds": 0.25, "own": 412.0},
            "scoring": {"tokens": 412.0, "seconds": 2.0, "own": None},
        },
    }


def test_the_table_is_aligned_and_says_what_it_stands_on(measured):
    text = plain_table(measured, width=1000)
    told, _, head, first, second, best, _, basis = text.splitlines()
    assert told == summary(measured)[0]
    value = measured.systems["far $x_1$"]["auc"]
    cell = f"{short(value.value)} {span(value)}"
    assert first.index(cell) == head.index("AUC") == best.index(".9000")
    assert second.rstrip().endswith("1 min 11 s")
    assert "600 test samples of 60 users" in basis
    assert "seed 3" in basis
    narrow = plain_table(measured, width=90)
    assert max(map(len, narrow.split("\n\nn = ")[0].splitlines())) <= 90
    assert all(name in narrow for name in ("AUC", "GAUC", "Log loss", "Accuracy", "ECE", "Time"))


@pytest.mark.parametrize(
    ("metric", "value", "low", "high", "sentence"),
    [
        ("auc", 0.012, 0.004, 0.020, "S is better than R by .012 AUC (95 % .004 to .020, paired over 60 users)."),
        ("auc", -0.012, -0.020, -0.004, "S is worse than R by .012 AUC (95 % .004 to .020, paired over 60 users)."),
        ("log_loss", -0.03, -0.05, -0.01, "S is better than R by .030 Log loss (95 % .010 to .050, paired over 60 users)."),
        (
            "auc",
            0.001,
            -0.002,
            0.004,
            "S and R do not differ clearly: S minus R is .001 AUC (95 % −.002 to .004, paired over 60 users).",
        ),
    ],
)
def test_the_verdict_in_words(measured, metric, value, low, high, sentence):
    difference = Difference(value, low, high, 600, 60, 20.0, 0.03)
    told = replace(measured, reference="R", against={"S": {metric: difference}})
    assert verdict(told, "S", metric, NAMES[metric], higher_is_better=HIGHER_IS_BETTER[metric]) == sentence


def test_few_users_get_no_interval_and_no_test_and_every_output_says_so(report, tmp_path):
    few_N = report.user_N < ENOUGH_USERS - 1
    few = replace(
        report,
        user_N=report.user_N[few_N],
        item_N=report.item_N[few_N],
        label_N=report.label_N[few_N],
        history_N=report.history_N[few_N],
        systems=[replace(system, score_N=system.score_N[few_N]) for system in report.systems],
    )
    measured = measure(few)
    table = plain_table(measured)
    assert "no intervals and no tests: 9 users say too little of others, at least 10 are needed" in table
    assert "[." not in table
    near = few.systems[1].name
    first, second, *_ = summary(measured)
    gap = f"are not tested: {near} minus far $x_1$ is ."
    assert first.startswith(f"The best language-model system and the best conventional model {gap}")
    assert first.endswith(" AUC over 9 users (each the only one), and at least 10 users are needed.")
    assert second.startswith(f"{near} and far $x_1$ {gap}")
    assert "AUC over 9 users, and at least 10 users are needed." in second
    as_json = figures(measured)
    assert as_json["against"][near]["auc"]["p"] is as_json["systems"][near]["ece"]["low"] is None
    html = write_report(tmp_path, few, measured).read_text()
    assert "no interval</small>" in html
    assert "no test</small>" in html
    assert "better, " not in html


def test_the_summary_measures_the_way_to_the_best_possible(measured):
    name = next(iter(measured.against))
    figure = replace(measured.systems[name]["auc"], value=0.8)
    told = replace(measured, systems={**measured.systems, name: {"auc": figure}})
    assert summary(told)[-1].endswith("reaches .8000: 75 % of the way there from guessing.")  # (.8 - .5) / (.9 - .5)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.02, "< .1 s"),
        (1.26, "1.3 s"),
        (59.4, "59 s"),
        (59.9, "1 min 00 s"),
        (71.0, "1 min 11 s"),
        (3600.0 * 2 + 60 * 5, "2 h 05 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.79621, ".7962"), (1.0, "1.0000"), (-0.012, "−.0120"), (-1e-9, ".0000"), (float("nan"), "–")]
)
def test_numbers(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "p < .001"), (0.0123, "p = .012"), (1.0, "p = 1.000"), (float("nan"), "no test")]
)
def test_p_values(p, text):
    assert p_value(p) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "nobody"}, "'nobody' is none of the systems"),
        ({"systems": []}, "at least one"),
    ],
)
def test_what_is_refused(report, change, message):
    with pytest.raises(ConfigError, match=message):
        replace(report, **change)


def test_an_example_may_only_name_systems_of_the_report(report):
    with pytest.raises(ConfigError, match=r"scores of \['ghost'\]"):
        replace(report, example=replace(report.example, scores={"ghost": 0.5}))
