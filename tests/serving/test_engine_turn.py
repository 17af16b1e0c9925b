"""What a worker does next, and how long it expects work to take: by hand, without a clock."""

import pytest
from torch import nn

from lifelora.serving.engine.ask import Ask, ListAsk, ScoreAsk
from lifelora.serving.engine.between import Between
from lifelora.serving.engine.pace import Pace
from lifelora.serving.engine.turn import Turn, turn

SLOW, QUICK = "lm", "din"


def score(system: str = SLOW, count: int = 10, deadline: float | None = None, ragged: bool = True) -> ScoreAsk:
    return ScoreAsk(user="u", system=system, items=("i",) * count, ragged=ragged, deadline=deadline)


def listed(system: str = SLOW, n: int = 10, deadline: float | None = None) -> ListAsk:
    return ListAsk(user="u", system=system, n=n, deadline=deadline)


def taken(*asks: Ask, fallback: str | None = QUICK, longest: float = 100.0, budget: int = 1000, busy: float = 0.0) -> Turn:
    """At second 100, where the LM takes a second a candidate and ten tokens, and the quick model a hundredth of that time."""

    def seconds(work: tuple[str, str], size: int) -> float:
        return size * (1.0 if work[1] == SLOW else 0.01) * (20 if work[0] == "recommend" else 1)

    return turn(
        asks,
        100.0,
        fallback=fallback,
        seconds=seconds,
        tokens=lambda work, size: 10.0 * size,
        longest=longest,
        budget=budget,
        busy=busy,
    )


def test_what_one_system_can_answer_together_goes_with_the_oldest():
    first, other, second, long = score(), score(QUICK), score(), listed()
    assert taken(first, other, second, long).together == [first, second]
    assert taken(other, first, second).together == [other]
    assert taken().together == []


def test_lists_of_one_pool_and_candidates_of_one_number_go_together():
    few, many = score(count=2, ragged=False), score(count=3, ragged=False)
    assert taken(few, many, also := score(count=2, ragged=False)).together == [few, also]
    assert taken(ten := listed(), listed(n=5), more := listed()).together == [ten, more]


@pytest.mark.parametrize(("bounds", "count"), [({"longest": 25.0}, 2), ({"budget": 300}, 3), ({"longest": 0.0}, 1), ({}, 4)])
def test_seconds_and_tokens_bound_what_goes_together(bounds: dict[str, float], count: int):
    asks = [score() for _ in range(4)]
    assert taken(*asks, **bounds).together == asks[:count]


def test_a_large_request_is_passed_by_a_small_one_that_fits():
    asks = [score(), score(count=50), score(count=5)]
    assert taken(*asks, longest=20.0).together == [asks[0], asks[2]]


def test_none_is_late_for_the_sake_of_what_goes_with_it():
    """Each takes ten seconds, and both twenty: then all of a batch are answered."""
    assert taken(first := score(deadline=112.0), score(), score()).together == [first]
    assert taken(first := score(), also := score(deadline=120.0), score()).together == [first, also]
    assert taken(first := score(deadline=112.0), score(), small := score(count=2)).together == [first, small]
    hurries = score(QUICK, deadline=100.15)  # which takes a tenth of a second, before them
    assert taken(first := score(deadline=120.05), hurries, score()).together == [first]


def test_who_would_be_late_gets_the_system_that_stands_in():
    soon, later, never = score(deadline=105.0), score(deadline=110.5), score()
    made = taken(soon, later, never)
    assert (made.quickly, made.late) == ([soon], [])
    assert made.together == [later], "both would take until 120"
    behind = score(deadline=115.0)  # twenty seconds of work stand before it is done
    assert taken(never, behind).quickly == [behind]
    assert taken(score(count=4), behind).together[1:] == [behind]
    assert taken(listed(deadline=110.0)).quickly, "a list takes twenty seconds"


def test_who_would_be_late_even_then_is_refused():
    gone, short = score(deadline=100.0), score(deadline=100.05)
    assert taken(gone, short).late == [gone, short]
    assert taken(soon := score(deadline=105.0), fallback=None).late == [soon]
    assert taken(own := score(QUICK, deadline=100.05)).late == [own], "the quick model takes a tenth of a second"
    assert taken(score(), quick := score(QUICK, deadline=101.0)).quickly == [quick], "before ten seconds of another's work"
    queued = [score(deadline=100.25) for _ in range(4)]  # a tenth of a second each
    made = taken(*queued)
    assert (made.quickly, made.late) == (queued[:2], queued[2:])


def test_what_cannot_wait_for_work_under_way_is_answered_quickly():
    """Thirty seconds of it are left, and then ten of its own would come."""
    waits, hurries, late = score(deadline=140.5), score(deadline=139.5), score(deadline=100.05)
    made = taken(waits, hurries, late, busy=30.0)
    assert (made.quickly, made.late, made.together) == ([hurries], [late], [waits])
    assert taken(hurries).together == [hurries], "where nothing is under way it has the time"
    assert taken(score(deadline=100.2), busy=30.0).quickly, "the quick model need not wait for the other"


def test_between_two_layers_it_is_looked_up_but_not_too_often():
    """A layer takes .1 seconds; a look takes none, or, once, .012, after which twenty times as much has to go by."""
    clock, looks, takes = [0.0], list[float](), [0.0, 0.0, 0.012]

    def look() -> None:
        looks.append(round(clock[0], 3))
        clock[0] += takes.pop(0) if takes else 0.0

    class Layer(nn.Module):
        def forward(self) -> None:
            clock[0] += 0.1

    model = nn.Module()
    model.layers = nn.ModuleList(Layer() for _ in range(6))
    between = Between(look, lambda: clock[0])
    between.watch(model)
    for layer in model.layers:
        layer()
    assert looks == [0.0, 0.1, 0.2, 0.512]
    between.end()
    for layer in model.layers:
        layer()
    assert len(looks) == 4
    assert not any(layer._forward_pre_hooks for layer in model.layers)


def test_the_pace_is_a_line():
    pace = Pace()
    assert pace.expect("score", 50) == pace.mean("score", 50) == 0.0
    pace.saw("score", 10, 0.2)
    assert pace.mean("score", 20) == pytest.approx(0.4), "of one size, in proportion"
    for size in (1, 16, 50, 7, 30) * 8:
        pace.saw("score", size, 0.05 + 0.01 * size)
    assert pace.mean("score", 100) == pytest.approx(1.05, rel=0.05)
    assert pace.mean("score", 1) == pytest.approx(0.06, rel=0.2)
    assert pace.expect("score", 100) >= pace.mean("score", 100)
    assert pace.mean("other", 100) == 0.0
    for size in (1, 16, 50) * 60:
        pace.saw("score", size, 0.01 * size)
    assert pace.mean("score", 100) == pytest.approx(1.0, rel=0.01), "what was slow once is forgotten"


def test_what_strays_is_expected_late():
    steady, wild = Pace(), Pace()
    for number in range(100):
        steady.saw("x", 10, 0.1)
        wild.saw("x", 10, 0.05 if number % 2 else 0.15)
    assert steady.expect("x", 10) == pytest.approx(0.1)
    assert wild.expect("x", 10) > 0.2


def test_less_for_more_is_a_mean():
    pace = Pace()
    for size, seconds in ((10, 0.5), (20, 0.4), (30, 0.3)) * 5:
        pace.saw("x", size, seconds)
    assert 0.3 < pace.mean("x", 1000) < 0.5
