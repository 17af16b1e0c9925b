r"""What C(u) acts on, the whole prompt or the question alone, over the runs of question.toml under several seeds.

python studies/all-data/question.py runs/question-0 --out studies/all-data/question.json
"""

from dataclasses import asdict

from lifelora.evaluation.tables import p_value, with_span
from lifelora.study import tell
from lifelora.study.learning import milliseconds, tokens
from lifelora.study.seeds import over_seeds

PAIRS = (
    ("sasrec-question", "sasrec-prompt"),
    ("din-question", "din-prompt"),
    ("sasrec-prompt", "plain"),
    ("sasrec-prompt", "sasrec"),
    ("din-question", "din"),
)


def main() -> None:
    """Print the table and the differences; write the file."""
    study = tell.asked(__doc__, picture=False)
    several = study.several
    run, told = several.runs[0], over_seeds(several.runs, "plain")
    print(told)
    minus = {f"{one} minus {other}": several.minus(one, other)["auc"] for one, other in PAIRS}
    for what, d in minus.items():
        print(f"{what:<36} {with_span(d)}  {p_value(d.p)}")
    cost, read = milliseconds(run, [*run.recipe.systems]), {name: tokens(run, name) for name in run.recipe.systems}
    for name, ms in cost.items():
        print(f"{name:<20} {ms:.2f} processor ms a training sample, {read[name].read:,} tokens for {read[name].alone:,}")
    study.write(
        {
            "rows_hash": [several.of("plain", [seed]).rows_hash for seed in several.seeds],
            "AUC minus": {what: asdict(d) for what, d in minus.items()},
            "processor ms a training sample, first run": cost,
            "tokens of the training samples, first run": {name: asdict(one) for name, one in read.items()},
        }
        | told.as_json(),
    )


if __name__ == "__main__":
    main()
