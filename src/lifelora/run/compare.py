"""Two runs, system by system, on the same test rows: a paired test over users. Knows stored scores, trains nothing."""

from lifelora.errors import ConfigError
from lifelora.evaluation.report import NAMES, short
from lifelora.evaluation.significance import Resampled, bootstrap, paired_test
from lifelora.run.parts import Parts

METRICS = ("auc", "gauc", "log_loss")


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
    for name in shared:
        difference = paired_test(_resampled(ours, name), _resampled(theirs, name))
        for metric in METRICS:
            d = difference[metric]
            sure = f"[{short(d.low)}, {short(d.high)}]  p = {short(d.p, 3)}"
            lines.append(f"  {name:<16} {NAMES[metric]:<9} {short(d.value)} {sure}")
    rows = ours.test_rows
    lines.append(f"n = {len(rows):,} test rows, seed 0, {ours.recipe.evaluation.resamples:,} resamples; "
                 "p is not corrected for several comparisons.")
    return "\n".join(lines)


def _resampled(parts: Parts, name: str) -> Resampled:
    # One seed for both runs, whatever theirs: a pair needs the same draws of users.
    return bootstrap(parts.scored(name), METRICS, resamples=parts.recipe.evaluation.resamples, seed=0)
