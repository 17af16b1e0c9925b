r"""A language model by the samples that it is tuned on, beside conventional models of the same samples and of all.

    python studies/laser-alone/alone.py runs/alone-0 runs/alone-1 runs/alone-2 --out studies/laser-alone/ml-1m.json \
      --picture studies/laser-alone/ml-1m.png
"""

from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from lifelora.evaluation import drawing
from lifelora.evaluation.significance import estimate
from lifelora.evaluation.tables import p_value, short, with_span
from lifelora.study import tell
from lifelora.study.seeds import NAMES, Several

METRICS = ("auc", "log_loss", "accuracy")
MODELS = {"lm": "nano LM", "deepfm": "DeepFM", "din": "DIN"}
UNTUNED = 32
"Where the picture puts an LM that no sample has tuned: a logarithm has no place for none."


def curves_of(several: Several) -> dict[str, dict[int, str]]:
    """The systems of each model by the number of their samples."""
    every = len(several.runs[0].context.dataset.samples["train"])

    def count(name: str) -> int:
        word = name.rpartition("-")[2]
        return UNTUNED if name == "lm-0" else every if word == "all" else int(word)

    return {model: {count(name): name for name in several.judged if name.startswith(f"{model}-")} for model in MODELS}


def main() -> None:
    """Print the tables; write the file and the picture."""
    study = tell.asked(__doc__)
    several = study.several
    curves = curves_of(several)
    counts = sorted({count for curve in curves.values() for count in curve})
    said = {count: "none" if count == UNTUNED else f"{count:,}" for count in counts}
    found = {}
    for count, name in sorted(curves["lm"].items()):
        others = [other for model in ("deepfm", "din") for other in (f"{model}-{name[3:]}", f"{model}-all")]
        minus = {other: several.minus(name, other)["auc"] for other in others if other in several.judged}
        found[name] = {other: asdict(d) for other, d in minus.items()}
        print(
            f"{said[count]:>8} samples:  "
            + "  ".join(f"minus {other} {with_span(d)} ({p_value(d.p)})" for other, d in minus.items())
        )
    for metric in METRICS:
        print(
            "",
            tell.markdown(
                [NAMES[metric], *said.values()],
                {
                    MODELS[model]: [
                        short(estimate(several.of(curve[at]), metric).value, 3) if at in curve else "" for at in counts
                    ]
                    for model, curve in curves.items()
                },
            ),
            sep="\n",
        )
    study.write({"the LM alone, AUC minus": found, "figures": several.figures(METRICS)})
    if study.picture:
        draw(several, curves, said, study.picture)


def draw(several: Several, curves: dict[str, dict[int, str]], said: dict[int, str], picture: Path) -> None:
    """AUC by the number of samples, a curve for each model."""
    with drawing.style("laser"):
        figure = Figure(figsize=(6.4, 3.8))
        axis = figure.add_subplot()
        for (model, curve), colour in zip(curves.items(), drawing.SYSTEMS, strict=False):
            counts = sorted(curve)
            tell.draw_curve(axis, counts, [estimate(several.of(curve[at]), "auc") for at in counts], colour, MODELS[model])
        axis.set(
            xscale="log", xlabel="training samples", ylabel="AUC on the test samples", xticks=[*said], xticklabels=said.values()
        )
        axis.minorticks_off()
        axis.legend(frameon=False, loc="lower right")
        figure.tight_layout()
        picture.write_bytes(drawing.png(figure))


if __name__ == "__main__":
    main()
