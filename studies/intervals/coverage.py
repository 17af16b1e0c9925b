r"""How often intervals hold the truth, and how often tests err, by simulation: every figure, 1 to 1,000 users, old and new.

    python studies/intervals/coverage.py --sims 400 --seed 0 --picture studies/intervals/coverage.png \
      --false-positives studies/intervals/false-positives.png

A world has users who differ in what they like, in how well a system knows them and in how many rows they have: "light", 20 on
average (one for next items), or "heavy", log-normal with median 6 and mean 18, the heavy users being easier. Two systems know
them equally well, so each difference that is found is a false one. The truth is the figure of 200,000 users. "ece" is of scores
near the truth (.01 to .02), "ece off" of scores that are too extreme (.08). Of few users the new intervals are as they would be;
lifelora gives none below ENOUGH_USERS. The old ones are percentiles of a bootstrap over users.

Under "seeds" are runs that are better or worse than one another by chance; the truth is the mean over all seeds, and "old" is an
interval over users alone. Cells are kept as they are made, in results.json; a second call goes on with the missing ones.
"""

import argparse
import ast
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, ndtr

from lifelora.evaluation import calibration, drawing, jackknife, significance
from lifelora.evaluation import metrics as M
from lifelora.evaluation.jackknife import Jackknifed, Rows, Scored
from lifelora.evaluation.ranks import Ranks
from lifelora.study import tell

RESULT = Path(__file__).parent / "results.json"
USERS = (1, 2, 3, 5, 10, 20, 30, 100, 300, 1000)
TAILS = ("light", "heavy")
DRAWS = 400
SPREAD = 0.07
"Of a system's noise over the seeds."
RESAMPLES = 200
"Of the old intervals."
TRUE_USERS = 200_000
TRUE_SEEDS = 400
PANELS = {
    "auc": "AUC",
    "gauc": "GAUC",
    "log_loss": "Log loss",
    "accuracy": "Accuracy",
    "ece": "ECE, nearly right",
    "ece off": "ECE, too extreme",
    "hr@1": "HR@1",
    "ndcg@10": "NDCG@10",
    "mrr": "MRR",
    "rare hr@10": "HR@10, rare",
}
COUNTED = tuple(metric for metric in M.HIGHER_IS_BETTER if metric != "ece")


@dataclass(frozen=True)
class World:
    """Rows of some users, and the scores or the values of two systems that are equally good."""

    users: int
    tail: str
    random: np.random.Generator

    def sizes(self, light: float) -> np.ndarray:
        """Rows of each user."""
        if self.tail == "light":
            return 1 + self.random.poisson(light - 1, self.users)
        return np.clip(np.rint(np.exp(self.random.normal(np.log(6), 1.5, self.users))), 1, 5000).astype(int)

    def ctr(self, runs: int = 1) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]]:
        """For each run: users, true chances, labels, and the log-odds of both systems."""
        rows_U = self.sizes(20.0)
        own_U = self.random.normal(0, 0.7, self.users) + 0.15 * (np.log(rows_U) - 2)
        known = [self.random.normal(0, 0.2, self.users) for _ in range(2)]
        user_N = np.repeat(np.arange(self.users), rows_U)
        for _ in range(runs):
            taste_N = self.random.normal(0, 1, len(user_N))
            chance_N = expit(own_U[user_N] + taste_N)
            label_N = self.random.random(len(user_N)) < chance_N
            odds = []
            for known_U in known:
                noise = 0.7 * np.exp(SPREAD * self.random.normal() if runs > 1 else 0.0)
                read_N = taste_N + self.random.normal(0, noise, len(user_N))
                odds.append(0.6 * own_U[user_N] + known_U[user_N] + 0.6 * read_N)
            yield user_N, chance_N, label_N, odds

    def next_items(self) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
        """Users, and each metric of both systems on each row."""
        rows_U = self.sizes(1.0)
        user_N = np.repeat(np.arange(self.users), rows_U)
        own_U = self.random.normal(1, 0.7, self.users) + 0.15 * (np.log(rows_U) - 2)
        taste_N = self.random.normal(0, 0.7, len(user_N))
        systems = []
        for _ in range(2):
            seen_N = own_U[user_N] + self.random.normal(0, 0.3, self.users)[user_N] + taste_N
            seen_N = seen_N + self.random.normal(0, 0.5, len(user_N))
            one = np.ones(len(user_N), np.int64)
            few = Ranks(self.random.binomial(19, 1 - ndtr(seen_N)), one)
            many = Ranks(self.random.binomial(3000, 1 - ndtr(seen_N)), one)
            systems.append({"hr@1": few.hit(1), "ndcg@10": few.ndcg(10), "mrr": few.reciprocal(), "rare hr@10": many.hit(10)})
        return user_N, systems


def off(odds_N: np.ndarray) -> np.ndarray:
    """Scores that are too extreme."""
    score_N: np.ndarray = expit(1.8 * odds_N + 0.3)
    return score_N


def gap(user_N: np.ndarray, chance_N: np.ndarray, score_N: np.ndarray) -> float:
    """ECE against the true probabilities, where no label adds chance."""
    gap_G = np.bincount(M.bin_of(score_N), weights=chance_N - score_N, minlength=M.BINS)
    return float(np.abs(gap_G).sum() / len(user_N))


def scored(user_N: np.ndarray, label_N: np.ndarray, score_N: np.ndarray) -> Scored:
    return Scored(user_N, user_N, label_N, score_N)


def truth(tail: str, seed: int, users: int) -> dict[str, float]:
    """Every figure of the population."""
    random = np.random.default_rng([seed, 10**9])
    user_N, chance_N, label_N, (odds_N, _) = next(World(users, tail, random).ctr())
    found = jackknife.jackknife(scored(user_N, label_N, expit(odds_N)), COUNTED)
    true = {metric: found.by_run[metric][0] for metric in COUNTED}
    true |= {"ece": gap(user_N, chance_N, expit(odds_N)), "ece off": gap(user_N, chance_N, off(odds_N))}
    next_items, _ = World(users, tail, random).next_items()[1]
    return true | {metric: float(value_N.mean()) for metric, value_N in next_items.items()}


def truth_over_seeds(seed: int, seeds: int) -> dict[str, float]:
    """The mean of every figure over many seeds, 4,000 users each."""
    every = []
    for place in range(seeds):
        world = World(4000, "light", np.random.default_rng([seed, 10**9 + 1, place]))
        user_N, chance_N, label_N, (odds_N, _) = next(world.ctr(2))
        values = jackknife.jackknife(scored(user_N, label_N, expit(odds_N)), COUNTED).by_run
        every.append([*(values[metric][0] for metric in COUNTED), gap(user_N, chance_N, expit(odds_N))])
    names, spread = [*COUNTED, "ece"], np.std(every, axis=0, ddof=1).tolist()
    return dict(zip(names, np.mean(every, axis=0).tolist(), strict=True)) | {
        f"{name}, standard deviation over seeds": value for name, value in zip(names, spread, strict=True)
    }


def percentiles(metric: str, user_N: np.ndarray, parts: tuple[np.ndarray, ...], times_RU: np.ndarray) -> np.ndarray:
    """A metric on each resample of the users; ``parts`` are (label, score), or (value,) of a mean."""
    users = times_RU.shape[1]
    rows_U = np.bincount(user_N, minlength=users).astype(float)
    value_R: np.ndarray
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "auc":
            label_N, score_N = parts
            order_N = np.argsort(score_N)
            weight_RN = times_RU[:, user_N[order_N]]
            no_RN = weight_RN * ~label_N[order_N]
            yes_RN = weight_RN - no_RN  # scores of these worlds are never tied
            won_R = (yes_RN * np.cumsum(no_RN, axis=1)).sum(axis=1, dtype=np.float64)
            value_R = won_R / yes_RN.sum(axis=1, dtype=np.float64) / no_RN.sum(axis=1, dtype=np.float64)
        elif metric == "gauc":
            auc_U, _ = M.auc_by_user(user_N, *parts)
            use_U = np.where(np.isnan(auc_U), 0.0, rows_U)
            value_R = (times_RU @ (np.nan_to_num(auc_U) * use_U)) / (times_RU @ use_U)
        elif metric.startswith("ece"):
            label_N, score_N = parts
            cell_N = user_N * M.BINS + M.bin_of(score_N)
            gap_UG = np.bincount(cell_N, weights=label_N - score_N, minlength=users * M.BINS).reshape(-1, M.BINS)
            value_R = np.abs(times_RU @ gap_UG).sum(axis=1) / (times_RU @ rows_U)
        else:
            value_R = (times_RU @ np.bincount(user_N, weights=parts[0], minlength=users)) / (times_RU @ rows_U)
    return value_R


def old(metric: str, value: float, draws_R: np.ndarray, *, difference: bool = False) -> tuple[float, float]:
    """The interval as it was: percentiles, those of ECE moved back by the mean push of resampling."""
    draws_R = draws_R[~np.isnan(draws_R)]
    if not len(draws_R):
        return float("nan"), float("nan")
    if metric.startswith("ece") and not difference:
        draws_R = np.maximum(draws_R - (draws_R.mean() - value), 0.0)
    low, high = np.quantile(draws_R, [0.025, 0.975])
    return float(low), float(high)


class Tally:
    """Counts of one cell, by metric and by interval."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, str], list[tuple[float, float, float]]] = {}

    def add(self, metric: str, what: str, low: float, high: float, true: float) -> None:
        """An interval, and what it should hold."""
        self.seen.setdefault((metric, what), []).append((low, high, true))

    def told(self) -> dict[str, dict[str, Any]]:
        """Of the simulations with an interval: share that holds the truth, shares wholly above and below it, median width."""
        told: dict[str, dict[str, Any]] = {}
        for (metric, what), found in self.seen.items():
            low, high, true = np.array([one for one in found if one[0] == one[0]] or [(np.nan,) * 3]).T
            given = int((low == low).sum())
            kept = {
                "given": given,
                "covers": float(((low <= true) & (true <= high)).mean()),
                "above": float((low > true).mean()),
                "below": float((high < true).mean()),
                "width": float(np.median(high - low)),
            }
            told.setdefault(metric, {})[what] = {key: round(value, 4) for key, value in kept.items()} if given else {"given": 0}
        return told


def both(tally: Tally, metric: str, true: float, systems: tuple[Jackknifed, Jackknifed], name: str = "") -> None:
    """The new interval of the first system, and of the difference."""
    name = name or metric
    figure = significance.estimate(systems[0], metric)
    tally.add(name, "new", figure.low, figure.high, true)
    difference = significance.paired_test(*systems)[metric]
    tally.add(name, "new difference", difference.low, difference.high, 0.0)


def cell(users: int, tail: str, true: Mapping[str, float], sims: int, seed: int) -> dict[str, Any]:
    """Every figure in one kind of world."""
    tally = Tally()
    for sim in range(sims):
        random = np.random.default_rng([seed, users, TAILS.index(tail), sim])
        world = World(users, tail, random)
        times_RU = random.multinomial(users, np.full(users, 1 / users), RESAMPLES).astype(np.float32)
        user_N, _, label_N, odds = next(world.ctr())
        scores = {"": [expit(odds_N) for odds_N in odds], " off": [off(odds_N) for odds_N in odds]}
        for suffix, pair in scores.items():
            metrics = ("ece",) if suffix else tuple(M.HIGHER_IS_BETTER)
            if users > 1:
                a, b = (jackknife.jackknife(scored(user_N, label_N, score_N), metrics, draws=DRAWS) for score_N in pair)
                for metric in metrics:
                    both(tally, metric, true[metric + suffix], (a, b), metric + suffix)
            for metric in metrics:
                rows = {"log_loss": M.row_losses, "accuracy": M.row_hits}.get(metric)
                parts = [(rows(label_N, score_N).astype(float),) if rows else (label_N, score_N) for score_N in pair]
                drawn = [percentiles(metric, user_N, part, times_RU) for part in parts]
                own = percentiles(metric, user_N, parts[0], np.ones((1, users), np.float32))[0]
                tally.add(metric + suffix, "old", *old(metric, own, drawn[0]), true[metric + suffix])
                tally.add(metric + suffix, "old difference", *old(metric, 0.0, drawn[0] - drawn[1], difference=True), 0.0)
        user_N, systems = world.next_items()
        if users > 1:
            a, b = (jackknife.jackknife_means(Rows(user_N, values, "")) for values in systems)
        for metric in systems[0]:
            if users > 1:
                both(tally, metric, true[metric], (a, b))
            drawn = [percentiles(metric, user_N, (values[metric],), times_RU) for values in systems]
            tally.add(metric, "old", *old(metric, 0.0, drawn[0]), true[metric])
            tally.add(metric, "old difference", *old(metric, 0.0, drawn[0] - drawn[1]), 0.0)
    return tally.told()


def seeds_cell(users: int, runs: int, true: Mapping[str, float], sims: int, seed: int) -> dict[str, Any]:
    """Every figure of runs under several seeds; "old" is over users alone, as it was."""
    tally = Tally()
    for sim in range(sims):
        world = World(users, "light", np.random.default_rng([seed, users, 10 + runs, sim]))
        columns = list(world.ctr(runs))
        pair = [[scored(user_N, label_N, expit(odds[place])) for user_N, _, label_N, odds in columns] for place in range(2)]
        a, b = (jackknife.jackknife(some, draws=DRAWS) for some in pair)
        users_only = [
            Jackknifed(
                one.rows_hash,
                {metric: [float(np.mean(values))] for metric, values in one.by_run.items()},
                one.counted,
                one.without,
                one.calibration,
            )
            for one in (a, b)
        ]
        for metric in M.HIGHER_IS_BETTER:
            both(tally, metric, true[metric], (a, b))
            figure = significance.estimate(users_only[0], metric)
            tally.add(metric, "old", figure.low, figure.high, true[metric])
            difference = significance.paired_test(*users_only)[metric]
            tally.add(metric, "old difference", difference.low, difference.high, 0.0)
    return tally.told()


def code() -> str:
    """Stands for the code that makes the figures; with other code all cells are made anew."""
    digest = hashlib.sha256()
    for path in (Path(__file__), *(Path(module.__file__ or "") for module in (calibration, jackknife, significance, M))):
        tree = ast.parse(path.read_text().partition("\ndef draw(")[0])
        lines = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
        for node in lines:  # what a comment says changes no figure
            node.value = ast.Constant("")
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:16]


def draw(found: dict[str, Any], what: str) -> Any:
    """A panel for each figure: users across, how often the interval holds the truth (or a false difference is found) upwards."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    difference, colours = what == "false positives", {"old": drawing.SYSTEMS[1], "new": drawing.SYSTEMS[0]}
    figure = Figure(figsize=(11.4, 6.4))
    axes = figure.subplots(2, 5, sharex=True, sharey=True)
    enough = significance.ENOUGH_USERS
    for axis, (metric, title) in zip(axes.flat, PANELS.items(), strict=True):
        axis.axhspan(0.03 if difference else 0.93, 0.07 if difference else 0.97, color=drawing.GRID, zorder=0, linewidth=0)
        axis.axvline(enough * 0.82, color=drawing.MUTED, linewidth=1, linestyle=(0, (2, 2)))
        for way, colour in colours.items():
            for tail in TAILS:
                cells = {
                    users: found["cells"][f"{users} users, {tail}"][metric].get(f"{way} difference" if difference else way)
                    for users in USERS
                    if f"{users} users, {tail}" in found["cells"]
                }
                points = [
                    (users, 1 - one["covers"] if difference else one["covers"])
                    for users, one in cells.items()
                    if one and one["given"] and (way == "old" or users >= enough)
                ]
                axis.plot(
                    [users for users, _ in points],
                    [share for _, share in points],
                    color=colour,
                    linestyle="-" if tail == "light" else (0, (1.2, 1.4)),
                    marker="o" if way == "new" else "s",
                    markersize=3.5,
                    linewidth=1.7,
                )
        axis.set_title(title, fontsize=12, color=drawing.INK, loc="left")
        axis.set(xscale="log", ylim=(0, 0.55) if difference else (0, 1.02), xticks=[1, 10, 100, 1000])
        axis.set_xticklabels(["1", "10", "100", "1,000"])
        axis.minorticks_off()
        axis.set_yticks([0, 0.05, 0.25, 0.5] if difference else [0, 0.25, 0.5, 0.75, 0.95])
        axis.yaxis.set_major_formatter(drawing.DECIMALS)
    for axis in axes[1]:
        axis.set_xlabel("users")
    lines = [
        Line2D(
            [],
            [],
            color=colours[way],
            linestyle="-" if tail == "light" else (0, (1.2, 1.4)),
            marker=mark,
            markersize=4,
            label=f"{way}, {tail} tail",
        )
        for way, mark in (("old", "s"), ("new", "o"))
        for tail in TAILS
    ]
    lines.append(
        Line2D(
            [], [], color=drawing.MUTED, linewidth=1, linestyle=(0, (2, 2)), label=f"left of it: under {enough} users, none now"
        )
    )
    figure.legend(handles=lines, loc="lower center", ncols=5, fontsize=11.5, labelcolor=drawing.INK)
    said = (
        "How often a difference is found between two equal systems; .05 is right"
        if difference
        else "How often a 95 % interval holds the truth; .95 is right"
    )
    figure.suptitle(said, x=0.02, ha="left", fontsize=13)
    figure.tight_layout(rect=(0, 0.06, 1, 0.97))
    return figure


def main() -> None:
    """Make the missing cells, print what they say, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sims", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--users", type=int, nargs="+", choices=USERS, default=USERS, metavar="COUNT")
    parser.add_argument("--population", type=int, default=TRUE_USERS, help="users whose figures are the truth")
    parser.add_argument("--true-seeds", type=int, default=TRUE_SEEDS, help="seeds whose mean is the truth")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--picture", type=Path, help="a PNG of the coverage")
    parser.add_argument("--false-positives", type=Path, help="a PNG of the false positives")
    arguments = parser.parse_args()
    about = {"sims": arguments.sims, "seed": arguments.seed, "draws": DRAWS, "code": code()}
    found: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    if {key: found.get(key) for key in about} != about:
        found = {
            **tell.origin(arguments.seed),
            **about,
            "cpu seconds": 0.0,
            "enough users": significance.ENOUGH_USERS,
            "Monte Carlo error of .95 and of .05": round(float(np.sqrt(0.95 * 0.05 / arguments.sims)), 4),
            "truth": {},
            "cells": {},
            "seeds": {},
        }
    given, significance.ENOUGH_USERS = significance.ENOUGH_USERS, 2  # the intervals that few users would get

    def keep(kind: str, name: str, make: Any) -> Any:
        if name not in found[kind]:
            started = time.process_time()
            found[kind][name] = make()
            found["cpu seconds"] = round(found["cpu seconds"] + time.process_time() - started, 1)
            arguments.out.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{kind} {name}: {time.process_time() - started:.0f} s", flush=True)
        return found[kind][name]

    for tail in TAILS:
        true = keep("truth", tail, lambda tail=tail: truth(tail, arguments.seed, arguments.population))
        for users in arguments.users:
            keep(
                "cells",
                f"{users} users, {tail}",
                lambda users=users, tail=tail, true=true: cell(users, tail, true, arguments.sims, arguments.seed),
            )
    true = keep("truth", "over seeds", lambda: truth_over_seeds(arguments.seed, arguments.true_seeds))
    for runs in (2, 3, 5):
        for users in [users for users in (10, 30, 100, 300) if users in arguments.users]:
            keep(
                "seeds",
                f"{runs} seeds, {users} users",
                lambda runs=runs, users=users: seeds_cell(users, runs, true, arguments.sims, arguments.seed),
            )
    significance.ENOUGH_USERS = given
    for name, one in {**found["cells"], **found["seeds"]}.items():
        print(name)
        for metric, ways in one.items():
            told = (f"{way} {kept['covers']:.3f} ({kept['given']})" for way, kept in ways.items() if kept["given"])
            print(f"  {metric:<11}", *told)
    for path, what in ((arguments.picture, "coverage"), (arguments.false_positives, "false positives")):
        if path:
            with drawing.style("coverage"):
                path.write_bytes(drawing.png(draw(found, what)))


if __name__ == "__main__":
    main()
