r"""AUC against the share of the training rows, for conventional models without and with what a language model knows (Laser).

    python studies/laser/laser.py vectors studies/laser/ml-1m.toml --data PATH/TO/ml-1m --out runs/known
    for seed in 0 1 2; do python studies/laser/laser.py run studies/laser/ml-1m.toml --data PATH/TO/ml-1m --known runs/known \
      --seed $seed --out runs/laser-$seed; done
    python studies/laser/laser.py tell runs/laser-0 runs/laser-1 runs/laser-2 --out studies/laser/ml-1m.json \
      --picture studies/laser/ml-1m.png

The vectors are made once, and lie in Parquet files. A run holds every model at every share of the training rows, each on the same
rows without and with knowledge: the first so many of one draw by seed. The same validation rows choose the epoch, and stop; the
same test rows judge. What was done is kept: called again, with more shares or models, a run goes on.
"""

import argparse
import json
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lifelora.evaluation import drawing
from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.measured import plain
from lifelora.evaluation.significance import Difference, estimate, paired_test
from lifelora.knowledge.questions import shown
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.parts import ITEMS, USERS, Parts
from lifelora.run.recommend import served
from lifelora.run.seeds import together as over_runs
from lifelora.vectors.base import Vectors

SHARES = (1, 2, 5, 10, 20, 50, 100)
MODELS = {"deepfm": "DeepFM", "autoint": "AutoInt", "dcnv2": "DCNv2", "gru4rec": "GRU4Rec", "caser": "Caser", "sasrec": "SASRec",
          "din": "DIN"}
METRICS = ("auc", "log_loss", "accuracy")
COLOURS = {"": "#777777", "encoder": "#0072b2", "nano": "#d55e00"}
UNTUNED = 32
"Where the picture puts an LM that no row has tuned: a logarithm has no place for none."
READERS = {"encoder": "all-MiniLM reads", "nano": "nano LM reads"}


def values_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The recipe's values, with the data where they are said to be; [study] stands beside it in the file."""
    values = tomllib.loads(arguments.recipe.read_text(encoding="utf-8"))
    values["data"]["source"]["path"] = str(arguments.data)
    return values


def vectors(arguments: argparse.Namespace) -> None:
    """All knowledge of the recipe into OUT/NAME-items.parquet and OUT/NAME-users.parquet."""
    values = values_of(arguments)
    values.pop("study")
    run = Run(parse(values | {"conventional": {"popularity": {"model": {"kind": "popularity"}}}}, str(arguments.recipe)),
              arguments.out, Options(device="cpu", progress=not arguments.quiet))
    run.prepare()
    run.embed()
    dataset = run.parts.dataset
    for name, asked in run.recipe.knowledge.items():
        folder = run.stages.knowledge(name).require()
        items_ME, states_NE = (Vectors.load(folder / file).vectors_NE for file in (ITEMS, USERS))
        of = shown(dataset, asked.every, 1)
        known_M, known_N = items_ME.any(dim=1).numpy(), states_NE.any(dim=1).numpy()
        pq.write_table(pa.table({
            "item": dataset.items.outside(np.flatnonzero(known_M)), "vector": list(items_ME.numpy()[known_M])
        }), arguments.out / f"{name}-items.parquet")
        pq.write_table(pa.table({
            "user": dataset.users.outside(of.user_N[known_N]), "events": of.number_N[known_N] * asked.every,
            "vector": list(states_NE.numpy()[known_N]),
        }), arguments.out / f"{name}-users.parquet")


def run(arguments: argparse.Namespace) -> None:
    """One seed: models at shares, without and with knowledge."""
    values = values_of(arguments) | {"seed": arguments.seed}
    study, every = values.pop("study"), {name: asked["every"] for name, asked in values["knowledge"].items()
                                         if arguments.knowledge is None or name in arguments.knowledge}
    values.pop("backbone", None)
    values["knowledge"] = {name: {"every": every[name], "vectors": {
        "kind": "precomputed", "items": str(arguments.known / f"{name}-items.parquet"),
        "users": str(arguments.known / f"{name}-users.parquet"), "dimensions": study["dimensions"],
    }} for name in every}
    values["conventional"] = {"popularity": {"model": {"kind": "popularity"}}}
    options = Options(device="cpu", progress=not arguments.quiet)
    first = Run(parse(values, "the study"), arguments.out, options)
    first.prepare()
    rows = len(first.parts.dataset.samples["train"])
    steps: dict[str, dict[str, Any]] = {}
    for share in SHARES:
        for model in MODELS:
            shots = max(1, rows * share // 100)
            training = next(one["training"] for one in study["training"] if shots <= one["rows"])
            step = {"model": {"kind": model, "history_length": 30} | study.get("model", {}), "training": training,
                    "train_samples": shots, "validation_samples": study.get("validation_samples")}
            steps[f"{model}-{share}"] = step
            for name in every:
                steps[f"{model}-{share}-{name}"] = step | {"knowledge": name, "knowledge_experts": study["knowledge_experts"]}
    asked = {name: step for name, step in steps.items()
             if step["model"]["kind"] in arguments.models and int(name.split("-")[1]) in arguments.shares}
    some = Run(parse(values | {"conventional": values["conventional"] | asked}, "the study"), arguments.out, options)
    some.prepare()
    some.fit()
    some.score()
    # What the folder says that it holds is the whole study, so that what earlier calls made is told, too.
    Run(parse(values | {"conventional": values["conventional"] | steps}, "the study"), arguments.out, options).prepare()


class Together:
    """Several seeds as one, as far as they have got: every figure, and every difference, is over the runs that have it."""

    def __init__(self, parts: list[Parts]) -> None:
        self.parts = parts
        self.runs = {name: tuple(place for place, one in enumerate(parts) if name in one.stages.names
                                 and one.stages.scores(name).complete()) for part in parts for name in part.stages.names}
        self.names = [name for name, runs in self.runs.items() if runs]
        self._drawn = lru_cache(None)(lambda name, runs: over_runs([parts[place] for place in runs], name))

    def of(self, name: str) -> Jackknifed:
        """One model over its runs."""
        drawn: Jackknifed = self._drawn(name, self.runs[name])
        return drawn

    def minus(self, name: str, other: str) -> dict[str, Difference]:
        """One model minus another, over the runs that have both."""
        both = tuple(place for place in self.runs[name] if place in self.runs[other])
        return paired_test(self._drawn(name, both), self._drawn(other, both))

    def save(self, out: Path, found: dict[str, Any]) -> None:
        """All figures, and where they come from."""
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
        first = self.parts[0]
        about = {"commit": commit.strip(), "date": datetime.now(UTC).date().isoformat(), "commands": __doc__,
                 "data": first.dataset.name, "seeds": [one.recipe.seed for one in self.parts],
                 "training rows": len(first.dataset.samples["train"]), "test rows": len(first.test_samples)}
        figures = {name: {"seeds": [self.parts[place].recipe.seed for place in self.runs[name]]} | {
            metric: asdict(estimate(self.of(name), metric)) | {"by seed": self.of(name).by_run[metric]} for metric in METRICS
        } for name in self.names}
        out.write_text(json.dumps(plain(about | found | {"figures": figures}), indent=1) + "\n")


def reached(together: Together, model: str, suffix: str, shares: list[int]) -> dict[str, int | None]:
    """The first share whose AUC is that of the plain model on all rows: by the value, and by the interval of the difference."""
    minus = {share: together.minus(f"{model}-{share}{suffix}", f"{model}-100")["auc"] for share in shares}
    return {"by value": next((share for share, d in minus.items() if d.value >= 0), None),
            "not to be told apart": next((share for share, d in minus.items() if d.high >= 0), None)}


def tell(arguments: argparse.Namespace) -> None:
    """All seeds as one: figures, paired differences, and the share at which knowledge has made up for the rest."""
    torch.set_num_threads(1)
    together = Together([Run.open(folder, Options(device="cpu")).parts for folder in arguments.runs])
    names = together.names
    shares = sorted({int(name.split("-")[1]) for name in names if "-" in name})
    models = [model for model in MODELS if any(name.startswith(f"{model}-") for name in names)]
    known = [name for name in COLOURS if any(step.endswith(f"-{name}") for step in names) and name]
    found: dict[str, Any] = {}
    for model in models:
        found[model] = {}
        for name in ("", *known):
            suffix = f"-{name}" if name else ""
            at = [share for share in shares if f"{model}-{share}{suffix}" in names]
            minus = {share: together.minus(f"{model}-{share}{suffix}", f"{model}-{share}") for share in at if name}
            found[model][name or "without"] = {
                "minus none, by share": {
                    share: {metric: asdict(of[metric]) for metric in METRICS} for share, of in minus.items()},
                "reaches": reached(together, model, suffix, at) if f"{model}-100" in names else None}
        last = [f"{model}-{shares[-1]}{suffix}" for suffix in ("", *(f"-{name}" for name in known))]
        here = [name for name in last if name in names and 0 in together.runs[name]]
        print(model, {name: of["reaches"] for name, of in found[model].items()})
        found[model]["ms to score 100 items, median and 95 %"] = served(together.parts[0], here)
    print(table(together, found, shares, known))
    together.save(arguments.out, {"knowledge against none": found})
    if arguments.picture:
        draw(together, models, shares, known, arguments.picture)


def table(together: Together, found: dict[str, Any], shares: list[int], known: list[str]) -> str:
    """Markdown, by metric: what models have without knowledge, and what each knowledge adds; * is p < .01, not corrected."""

    def plus(value: float) -> str:
        return ("−" if value < 0 else "+") + f"{abs(value):.4f}".removeprefix("0")

    def cell(metric: str, model: str, share: int) -> str:
        if f"{model}-{share}" not in together.names:
            return ""
        without = estimate(together.of(f"{model}-{share}"), metric).value
        these = [d[metric] for d in added(share, [model])]
        return " ".join([three(without), *(plus(d["value"]) + "*" * (d["p"] < 0.01) for d in these)])

    def added(share: int, models: Iterable[str], of: Iterable[str] = known) -> list[dict[str, dict[str, float]]]:
        by_share = [found[model][name]["minus none, by share"] for model in models for name in of]
        return [one[share] for one in by_share if share in one]

    def mean(metric: str, name: str, share: int) -> str:
        these = [d[metric] for d in added(share, found, [name])]
        if not these:
            return ""
        ups, downs = (sum(d["p"] < 0.01 and sign * d["value"] > 0 for d in these) for sign in (1, -1))
        return f"{plus(float(np.mean([d['value'] for d in these])))} ({ups} up, {downs} down)"

    lines = []
    for metric in METRICS:
        lines += ["", *markdown([metric, *(f"{share} %" for share in shares)], {
            **{MODELS[model]: [cell(metric, model, share) for share in shares] for model in found},
            **{f"mean, {READERS[name]}": [mean(metric, name, share) for share in shares] for name in known},
        })]
    return "\n".join(lines)


def three(value: float) -> str:
    """With three places, as the tables have them."""
    return f"{value:.3f}".removeprefix("0")


def markdown(head: list[str], rows: dict[str, list[str]]) -> list[str]:
    """A table's lines."""
    lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in rows.items())]
    return ["| " + " | ".join(line) + " |" for line in lines]


def alone(arguments: argparse.Namespace) -> None:
    """The LM by the rows it is tuned on, beside conventional models of the same rows and of all."""
    together = Together([Run.open(folder, Options(device="cpu")).parts for folder in arguments.runs])
    steps, found = together.names, dict[str, Any]()
    rows = len(together.parts[0].dataset.samples["train"])
    others = [model for model in MODELS if any(name.startswith(f"{model}-") for name in steps)]
    curves = {model: {UNTUNED if name == "lm-0" else rows if name.endswith("-all") else int(name.rpartition("-")[2]): name
                      for name in steps if name.startswith(f"{model}-")} for model in ("lm", *others)}
    counts = sorted({count for curve in curves.values() for count in curve})
    said = {count: "none" if count == UNTUNED else f"{count:,}" for count in counts}
    for count, name in sorted(curves["lm"].items()):
        found[name] = {other: asdict(together.minus(name, other)["auc"])
                       for model in others for other in (f"{model}-{name[3:]}", f"{model}-all") if other in steps}
        print(f"{said[count]:>8} rows:  " + "  ".join(
            f"minus {other} {d['value']:+.4f} (p = {d['p']:.3f})" for other, d in found[name].items()))
    for metric in METRICS:
        print("", *markdown([metric, *said.values()], {MODELS.get(model, "nano LM"): [
            three(estimate(together.of(curve[at]), metric).value) if at in curve else "" for at in counts
        ] for model, curve in curves.items()}), sep="\n")
    together.save(arguments.out, {"the LM alone, AUC minus": found})
    if not arguments.picture:
        return
    with drawing.style("laser"):
        figure, axis = plt.subplots(figsize=(6.4, 3.8))
        for (model, curve), colour in zip(curves.items(), ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), strict=False):
            places = sorted(curve)
            of = [estimate(together.of(curve[place]), "auc") for place in places]
            axis.plot(places, [f.value for f in of], "o-", color=colour, markersize=4,
                      label=MODELS.get(model, "nano LM"))
            axis.fill_between(places, [f.low for f in of], [f.high for f in of], color=colour, alpha=0.12)
        axis.set(xscale="log", xlabel="training rows", ylabel="AUC on the test rows", xticks=counts, xticklabels=said.values())
        axis.minorticks_off()
        axis.legend(frameon=False, loc="lower right")
        figure.tight_layout()
        figure.savefig(arguments.picture, dpi=150)


def draw(together: Together, models: list[str], shares: list[int], known: list[str], picture: Path) -> None:
    """AUC by share, and below what knowledge does to it, to the log loss and to the accuracy; a column for each model."""
    with drawing.style("laser"):
        figure, axes = plt.subplots(4, len(models), figsize=(1.85 * len(models), 7.0), sharey="row", sharex=True, squeeze=False,
                                    height_ratios=(3, 2, 2, 2))
        for column, model in zip(axes.T, models, strict=True):
            for name in ("", *known):
                suffix = f"-{name}" if name else ""
                at = [share for share in shares if f"{model}-{share}{suffix}" in together.names]
                of = [estimate(together.of(f"{model}-{share}{suffix}"), "auc") for share in at]
                column[0].plot(at, [f.value for f in of], "o-", color=COLOURS[name], markersize=3, linewidth=1.2,
                               label=READERS.get(name, "without knowledge"))
                minus = [together.minus(f"{model}-{share}{suffix}", f"{model}-{share}") for share in at if name]
                for axis, metric in zip(column[1:], METRICS, strict=True):
                    if minus:
                        of = [d[metric] for d in minus]
                        axis.plot(at, [d.value for d in of], "o-", color=COLOURS[name], markersize=3, linewidth=1.2)
                        axis.fill_between(at, [d.low for d in of], [d.high for d in of], color=COLOURS[name], alpha=0.15)
                    axis.axhline(0, color="#777777", linewidth=0.7)
            if f"{model}-100" in together.names:
                whole = estimate(together.of(f"{model}-100"), "auc").value
                column[0].axhline(whole, color="#777777", linewidth=0.7, linestyle=":")
            column[0].set(xscale="log", title=MODELS[model])
            column[-1].set(xticks=shares, xticklabels=[str(share) if share in (1, 5, 20, 100) else "" for share in shares])
            column[-1].minorticks_off()
        said = ("AUC", *(f"{metric},\nadded" for metric in ("AUC", "Log loss", "Accuracy")))
        for axis, label in zip(axes[:, 0], said, strict=True):
            axis.set_ylabel(label)
        axes[-1][len(models) // 2].set_xlabel("% of the training rows")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.95))
        figure.savefig(picture, dpi=150)


def main() -> None:
    """``vectors``, ``run``, ``tell`` or ``alone``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True)
    made = actions.add_parser("vectors")
    made.add_argument("recipe", type=Path)
    made.add_argument("--data", type=Path, required=True, help="the data set's folder")
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--quiet", action="store_true")
    made.set_defaults(action=vectors)
    one = actions.add_parser("run")
    one.add_argument("recipe", type=Path)
    one.add_argument("--data", type=Path, required=True, help="the data set's folder")
    one.add_argument("--known", type=Path, required=True)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--models", nargs="+", default=list(MODELS))
    one.add_argument("--shares", nargs="+", type=int, default=SHARES)
    one.add_argument("--knowledge", nargs="*")
    one.add_argument("--quiet", action="store_true")
    one.set_defaults(action=run)
    for name, action in (("tell", tell), ("alone", alone)):
        many = actions.add_parser(name)
        many.add_argument("runs", nargs="+", type=Path)
        many.add_argument("--out", type=Path, required=True)
        many.add_argument("--picture", type=Path)
        many.set_defaults(action=action)
    arguments = parser.parse_args()
    arguments.action(arguments)


if __name__ == "__main__":
    main()
