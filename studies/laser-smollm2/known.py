r"""What knowledge adds to DIN by the share of training samples, on all test samples, on known films and on new ones.

    python studies/laser-smollm2/known.py runs/known-0 runs/known-1 runs/known-2 --out studies/laser-smollm2/results.json \
      --picture studies/laser-smollm2/added.png
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lifelora.evaluation import drawing
from lifelora.evaluation.jackknife import Jackknifed, Scored, jackknife
from lifelora.evaluation.significance import Difference, estimate, paired_test
from lifelora.evaluation.tables import short
from lifelora.run import Run
from lifelora.run.tasks.ctr import Ctr
from lifelora.study import tell

METRICS = ("auc", "gauc", "log_loss")
SHARES = {"1": "750", "10": "7,500", "100": "all"}
"In per cent, and how many training samples that is."
KNOWS = {
    "written": "what the LM writes of films",
    "read": "what it reads of films",
    "read-users": "what it reads of films and users",
}
GROUPS = {"all": "all test samples", "known": "films known in training", "new": "new films"}


@dataclass(frozen=True)
class Group:
    """The runs on some of their test samples: all, those of items that training has seen, or those of new ones."""

    runs: list[Run]
    name: str

    @cached_property
    def figures(self) -> dict[str, Jackknifed]:
        """Every model, over all runs."""
        return {name: jackknife([self._of(run, name) for run in self.runs], METRICS) for name in self.runs[0].stages.names}

    def _of(self, run: Run, name: str) -> Scored:
        assert isinstance(run.task, Ctr)
        dataset, scored = run.context.dataset, run.task.scored(name)
        seen_M = np.bincount(dataset.item_N[dataset.training_events()], minlength=dataset.n_items) > 0
        keep_N = {"all": np.ones(len(scored.item_N), np.bool_), "known": seen_M[scored.item_N], "new": ~seen_M[scored.item_N]}
        return scored.where(keep_N[self.name])

    def added(self, share: str, knows: str) -> dict[str, Difference]:
        """What knowledge adds to DIN at a share of the training samples."""
        return paired_test(self.figures[f"din-{share}-{knows}"], self.figures[f"din-{share}"])


def table(groups: Mapping[str, Group]) -> str:
    """AUC without knowledge, and what each kind adds, with its interval."""
    rows = {}
    for group, one in groups.items():
        for share in SHARES:
            added = [one.added(share, knows)["auc"] for knows in KNOWS]
            cells = [f"{short(d.value)} ({short(d.low)} to {short(d.high)})" for d in added]
            rows[f"{GROUPS[group]}, {SHARES[share]}"] = [short(estimate(one.figures[f"din-{share}"], "auc").value), *cells]
    return tell.markdown(["AUC", "DIN", *(f"{knows} adds" for knows in KNOWS)], rows)


def draw(groups: Mapping[str, Group], picture: Path) -> None:
    """What is added to AUC: a panel for each group, beside one another the kinds of knowledge."""
    with drawing.style("laser-smollm2"):
        figure = Figure(figsize=(11, 3.6))
        for axes, (group, one) in zip(figure.subplots(1, len(groups)), groups.items(), strict=True):
            for place, knows in enumerate(KNOWS):
                added = [one.added(share, knows)["auc"] for share in SHARES]
                value_S = np.array([d.value for d in added])
                reach_2S = np.array([[d.value - d.low for d in added], [d.high - d.value for d in added]])
                axes.errorbar(
                    np.arange(len(SHARES)) + 0.14 * (place - 1),
                    value_S,
                    reach_2S,
                    fmt=drawing.MARKERS[place],
                    color=drawing.SYSTEMS[place],
                    markersize=5,
                    linewidth=1.4,
                    label=KNOWS[knows],
                )
            axes.axhline(0, color=drawing.MUTED, linewidth=0.8)
            axes.set(title=GROUPS[group], xticks=range(len(SHARES)), xticklabels=[*SHARES.values()])
        figure.axes[0].set_ylabel("AUC, added to DIN")
        figure.axes[1].set_xlabel("training samples")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="upper center", ncols=len(KNOWS))
        figure.tight_layout(rect=(0, 0, 1, 0.92))
        picture.write_bytes(drawing.png(figure))


def main() -> None:
    """Print the table; write the file and the picture."""
    study = tell.asked(__doc__)
    several = study.several
    groups = {name: Group(several.runs, name) for name in GROUPS}
    found = {
        name: {
            "figures": {
                system: {metric: asdict(estimate(figures, metric)) | {"by seed": figures.by_run[metric]} for metric in METRICS}
                for system, figures in one.figures.items()
            },
            "knowledge minus none": {
                share: {knows: {metric: asdict(d) for metric, d in one.added(share, knows).items()} for knows in KNOWS}
                for share in SHARES
            },
        }
        for name, one in groups.items()
    }
    study.write({"groups": found})
    print(table(groups))
    if study.picture:
        draw(groups, study.picture)


if __name__ == "__main__":
    main()
