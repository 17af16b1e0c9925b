r"""How an untuned LM answers, by how many behaviours it is shown and which, and whether a difference could be chance.

    python studies/rella/zero_shot.py runs/rella-zero-shot --out studies/rella/zero-shot.json \
      --picture studies/rella/zero-shot.png

The runs are those of zero-shot.toml; a system that none has judged yet is left out.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lifelora.evaluation import drawing
from lifelora.evaluation.significance import Difference, estimate
from lifelora.evaluation.tables import p_value, with_span
from lifelora.study import tell
from lifelora.study.seeds import Several

METRICS = ("auc", "gauc", "log_loss")
KINDS = {
    "recent": "the latest K",
    "retrieved": "the K most like the target (SUBR)",
    "chat-recent": "the latest K, in the chat template",
    "chat-retrieved": "the K most like the target, in the chat template",
}


def asked(several: Several) -> dict[str, list[int]]:
    """The numbers of behaviours that each kind of system was shown."""
    found: dict[str, list[int]] = {}
    for name in several.judged:
        kind, _, K = name.rpartition("-")
        if kind in KINDS:
            found.setdefault(kind, []).append(int(K))
    return {kind: sorted(counts) for kind, counts in found.items()}


def differences(several: Several, counts: dict[str, list[int]]) -> dict[str, dict[str, Difference]]:
    """Retrieved minus recent at every K, and the most behaviours minus the fewest."""
    pairs: dict[str, tuple[str, str]] = {}
    for kind, of in counts.items():
        twin = kind.replace("retrieved", "recent")
        if twin != kind:
            pairs |= {f"{kind}-{K} minus {twin}-{K}": (f"{kind}-{K}", f"{twin}-{K}") for K in of if K in counts.get(twin, ())}
        if len(of) > 1:
            pairs[f"{kind}-{of[-1]} minus {kind}-{of[0]}"] = f"{kind}-{of[-1]}", f"{kind}-{of[0]}"
    return {said: several.minus(*pair) for said, pair in pairs.items()}


def main() -> None:
    """Print the tables; write the file and the picture."""
    study = tell.asked(__doc__)
    several = study.several
    counts = asked(several)
    shown = {name: [with_span(estimate(several.of(name), metric)) for metric in METRICS] for name in several.judged}
    print(tell.markdown(["", "AUC", "GAUC", "log loss"], shown))
    minus = differences(several, counts)
    rows = {said: [f"{with_span(d[metric])} ({p_value(d[metric].p)})" for metric in ("auc", "gauc")] for said, d in minus.items()}
    print(tell.markdown(["", "AUC", "GAUC"], rows))
    study.write(
        {
            "minus": {said: {metric: asdict(d[metric]) for metric in METRICS} for said, d in minus.items()},
            "figures": several.figures(METRICS),
        },
    )
    if study.picture:
        draw(several, counts, study.picture)


def draw(several: Several, counts: dict[str, list[int]], picture: Path) -> None:
    """AUC over all samples, and within users, against K."""
    with drawing.style("rella"):
        figure = Figure(figsize=(9.2, 4.4))
        axes: Any = figure.subplots(1, 2)
        for axis, metric, said in zip(axes, ("auc", "gauc"), ("AUC", "AUC within users (GAUC)"), strict=True):
            for (kind, of), colour in zip(counts.items(), drawing.SYSTEMS, strict=False):
                figures = [estimate(several.of(f"{kind}-{K}"), metric) for K in of]
                tell.draw_curve(axis, of, figures, colour, KINDS[kind])
            axis.axhline(0.5, color="grey", linewidth=0.8, linestyle=":")
            ticks = sorted({K for of in counts.values() for K in of})
            axis.set(xlabel="behaviours in the prompt (K)", ylabel=said, xticks=ticks)
        figure.legend(*axes[0].get_legend_handles_labels(), fontsize=9, loc="lower center", ncol=2)
        figure.tight_layout(rect=(0.0, 0.08, 1.0, 1.0))
        picture.write_bytes(drawing.png(figure))


if __name__ == "__main__":
    main()
