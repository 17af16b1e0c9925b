"""What a thing adds to each of those that it is made of, above all to a conventional model. Knows figures, no blend, no model.

The honest answer to "do the words add anything?" is a paired test of what has both against the conventional model alone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.measured import CONVENTIONAL, LANGUAGE_MODEL, TWO_TOWERS, Validated, why_untested
from lifelora.evaluation.significance import Difference, paired_test
from lifelora.evaluation.tables import in_blocks, p_value, short, with_span


@dataclass(frozen=True)
class Added:
    """One thing minus another that is a part of it, on the same samples."""

    name: str
    against: str
    words: bool
    "Whether this says if words add anything: ``against`` is the best conventional part by validation, and words stand beside it."
    differences: dict[str, Difference]


def added(
    found: Mapping[str, Jackknifed], pairs: Sequence[tuple[str, str]], families: Mapping[str, str], validated: Validated | None
) -> tuple[Added, ...]:
    """Each of ``pairs`` (what is made, one of its parts), paired; of equal conventional parts the first is the best."""
    parts: dict[str, list[str]] = {}
    for name, part in pairs:
        parts.setdefault(name, []).append(part)
    best = {name: _best(name, some, families, validated) for name, some in parts.items()}
    return tuple(Added(name, part, part == best[name], paired_test(found[name], found[part])) for name, part in pairs)


def _best(name: str, parts: Sequence[str], families: Mapping[str, str], validated: Validated | None) -> str | None:
    """The best conventional part of what has words; None where nothing says which, or where no words are beside it: those of a
    control are none.
    """
    plain = [part for part in parts if families[part] == CONVENTIONAL]
    if not plain or not any(families[one] in (LANGUAGE_MODEL, TWO_TOWERS) for one in (name, *parts)):
        return None
    auc = {part: validated.auc.get(part, math.nan) if validated else math.nan for part in plain}
    if len(plain) > 1 and all(map(math.isnan, auc.values())):
        return None
    return max(plain, key=lambda part: -1.0 if math.isnan(auc[part]) else auc[part])


def answers(some: Sequence[Added], metric: str, unit: str, never_seen: Sequence[Added] = ()) -> list[str]:
    """A sentence for each that says whether words add anything, and how much on samples whose target training had never seen.

    ``unit`` names the metric, of which more is better.
    """
    told = []
    for one in some:
        if one.words and metric in one.differences:
            cold = [other.differences[metric] for other in never_seen if (other.name, other.against) == (one.name, one.against)]
            told.append(" ".join(filter(None, [_answer(one, metric, unit), *map(_cold, cold)])))
    return told


def _cold(difference: Difference) -> str:
    if math.isnan(difference.value):
        return ""
    how = "no interval" if math.isnan(difference.low) else f"95 % {short(difference.low)} to {short(difference.high)}"
    return f"Of items never seen in training: {short(difference.value)} ({how}; n = {difference.n:,})."


def _answer(one: Added, metric: str, unit: str) -> str:
    difference, ask = one.differences[metric], "Do the words add anything?"
    gap = f"{one.name} minus {one.against}, the best conventional model in it, is {short(difference.value)} {unit}"
    if math.isnan(difference.value):
        return f"{ask} That cannot be said: {unit} of {one.name} or {one.against} is undefined on these samples."
    if math.isnan(difference.low):
        return f"{ask} Not tested: {gap} over {difference.users:,} users, and {why_untested(difference)}."
    sure = f"95 % {short(difference.low)} to {short(difference.high)}, paired over {difference.users:,} users"
    if difference.low <= 0 <= difference.high:
        return f"{ask} Not clearly: {gap} ({sure})."
    return f"{ask} {'Yes' if difference.value > 0 else 'No, they harm'}: {gap} ({sure})."


def added_table(some: Sequence[Added], names: Mapping[str, str], width: int) -> list[str]:
    """As text, in as many blocks as keep the lines within ``width``; none where nothing is made of others."""
    if not some:
        return []
    columns: list[list[str]] = [["", *(f"{one.name} minus {one.against}" for one in some)]]
    for metric, name in names.items():
        cells = [
            f"{with_span(one.differences[metric])}  {p_value(one.differences[metric].p)}" if metric in one.differences else ""
            for one in some
        ]
        columns += [[f"Δ {name}", *cells]] if any(cells) else []
    return in_blocks(columns, width)
