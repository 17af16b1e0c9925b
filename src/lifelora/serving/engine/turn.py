"""What a worker does next with the requests that wait: which go together, and which a quicker system answers. Computes nothing.

Requests keep their order. The oldest one is answered now, and with it those of the same key that fit and make none of these late.
A request whose deadline would be missed in its turn goes to the system that stands in, at once; where even that would be late, it
is refused.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from lifelora.serving.engine.ask import Ask

Expect = Callable[[Hashable, int], float]
"""What work of a kind and size takes."""


@dataclass
class Turn:
    """What to do with some of the requests; the others go on waiting."""

    together: list[Ask] = field(default_factory=list)
    quickly: list[Ask] = field(default_factory=list)
    "By the system that stands in, or that was asked and is quick itself."
    late: list[Ask] = field(default_factory=list)


def turn(
    waiting: Sequence[Ask],
    now: float,
    *,
    fallback: str | None,
    seconds: Expect,
    tokens: Expect,
    longest: float,
    budget: int,
    busy: float = 0.0,
) -> Turn:
    """The next turn; ``longest`` seconds and ``budget`` tokens bound what goes together, of which there is one at least.

    ``busy`` seconds go by before it; the system that stands in can begin at once.
    """
    made, ahead, quick, size, soonest = Turn(), Counter[Hashable](), Counter[Hashable](), 0, float("inf")

    def ends(work: Counter[Hashable]) -> float:
        return now + sum(seconds(kind, count) for kind, count in work.items())

    for ask in waiting:
        own, stands_in = Counter({ask.work: ask.size}), Counter({(ask.kind, fallback): ask.size})
        deadline = float("inf") if ask.deadline is None else ask.deadline
        if now >= deadline or busy + ends(quick + ahead + own) > deadline:
            if fallback is None or now >= deadline or ends(quick + stands_in) > deadline:
                made.late.append(ask)
            else:
                made.quickly.append(ask)
                quick += stands_in
            continue
        ahead += own
        if not made.together:
            made.together, size, soonest = [ask], ask.size, deadline
        elif ask.key == made.together[0].key:
            more, earlier = size + ask.size, min(soonest, deadline)
            fits = seconds(ask.work, more) <= longest and tokens(ask.work, more) <= budget
            if fits and busy + ends(quick + Counter({ask.work: more})) <= earlier:  # all of a batch are answered at its end
                made.together.append(ask)
                size, soonest = more, earlier
    return made
