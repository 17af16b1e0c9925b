"""Two runs, system by system, on the same test rows: a paired test over users. Knows stored results, trains nothing."""

import numpy as np

from lifelora.errors import ConfigError
from lifelora.evaluation.significance import paired_test
from lifelora.evaluation.tables import p_value, sureness, with_span
from lifelora.run.parts import Parts
from lifelora.run.seeds import NAMES, together

SHOWN = ("auc", "gauc", "log_loss", "hr@1", "ndcg@10", "catalogue ndcg@10")
"""As far as both runs have them."""


def compare(ours: Parts, theirs: Parts) -> str:
    """This run minus the other for each system that both have, with 95 % intervals and p where there are users enough.

    Raises ConfigError where the runs share no system, or were judged on different rows.
    """
    shared = [name for name in ours.stages.names if name in theirs.stages.names]
    if not shared:
        raise ConfigError(
            f"{ours.stages.folder} has {', '.join(ours.stages.names)} and {theirs.stages.folder} has "
            f"{', '.join(theirs.stages.names)}: there is no name in both to compare."
        )
    lines = [f"{ours.stages.folder} minus {theirs.stages.folder}, paired over users:"]
    differences = {name: paired_test(together([ours], name), together([theirs], name)) for name in shared}
    width = max(len(NAMES[metric]) for difference in differences.values() for metric in SHOWN if metric in difference)
    for name, difference in differences.items():
        for metric, d in ((metric, difference[metric]) for metric in SHOWN if metric in difference):
            lines.append(f"  {name:<16} {NAMES[metric]:<{width}}  {with_span(d)}  {p_value(d.p)}")
    user_N = ours.dataset.targets(ours.test_samples).user_B
    users = len(np.unique(user_N))
    lines.append(f"n = {len(user_N):,} test rows of {users:,} users; {sureness(users, tested=True)}; "
                 "p is not corrected for several comparisons.")
    return "\n".join(lines)
