"""Two runs, system by system, on the same test rows: a paired test over users. Knows stored results, trains nothing."""

from lifelora.errors import ConfigError
from lifelora.evaluation.report import short
from lifelora.evaluation.significance import paired_test
from lifelora.run.parts import Parts
from lifelora.run.seeds import NAMES, drawn_together

SHOWN = ("auc", "gauc", "log_loss", "hr@1", "ndcg@10", "catalogue ndcg@10")
"""As far as both runs have them."""


def compare(ours: Parts, theirs: Parts) -> str:
    """This run minus the other for each system that both have, with 95 % intervals and p.

    Raises ConfigError where the runs share no system, or were judged on different rows.
    """
    shared = [name for name in ours.stages.names if name in theirs.stages.names]
    if not shared:
        raise ConfigError(
            f"{ours.stages.folder} has {', '.join(ours.stages.names)} and {theirs.stages.folder} has "
            f"{', '.join(theirs.stages.names)}: there is no name in both to compare."
        )
    lines = [f"{ours.stages.folder} minus {theirs.stages.folder}, paired over users, 95 % interval:"]
    differences = {name: paired_test(drawn_together([ours], name), drawn_together([theirs], name)) for name in shared}
    width = max(len(NAMES[metric]) for difference in differences.values() for metric in SHOWN if metric in difference)
    for name, difference in differences.items():
        for metric, d in ((metric, difference[metric]) for metric in SHOWN if metric in difference):
            sure = f"[{short(d.low)}, {short(d.high)}]  p = {short(d.p, 3)}"
            lines.append(f"  {name:<16} {NAMES[metric]:<{width}}  {short(d.value)} {sure}")
    rows = ours.test_rows
    lines.append(f"n = {len(rows):,} test rows, seed 0, {ours.recipe.evaluation.resamples:,} resamples; "
                 "p is not corrected for several comparisons.")
    return "\n".join(lines)
