"""What an engine's worker does: it loads models, measures them, and takes turns at requests. Knows no thread."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Sequence

import numpy as np

from lifelora.data.extend import Event, Told
from lifelora.errors import ConfigError, DeadlineError, LifeloraError
from lifelora.run.choice import best
from lifelora.run.run import Run
from lifelora.run.scorers.base import Scorer
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.run.scorers.language import LanguageScorer
from lifelora.run.scorers.two_tower import TwoTowerScorer
from lifelora.serving.engine.answer import Answer
from lifelora.serving.engine.answering import Answering, Outcome
from lifelora.serving.engine.ask import Ask, ListAsk, ScoreAsk
from lifelora.serving.engine.between import Between
from lifelora.serving.engine.kept import Kept
from lifelora.serving.engine.options import EngineOptions
from lifelora.serving.engine.pace import Pace
from lifelora.serving.engine.turn import Turn, turn

WARM_UP = (1, 1, 16)
"""Candidates of the requests by which the pace of each system is first measured."""
COUNTS = ("turns", "tokens", "answered", "stood in", "refused", "failed", "late", "cancelled", "events")
"""What is counted: calls of scorers and tokens that went through LMs; then requests, by what became of them; then events."""
Clock = Callable[[], float]
Aside = Callable[[Callable[[Sequence[Ask]], Collection[Ask]]], None]
TOKENS = 1 << 17
"""Read together where no language model's memory says how many."""


class Work:
    """Of one run. Not for several threads, but for ``state``."""

    def __init__(self, run: Run, systems: Sequence[str], options: EngineOptions) -> None:
        self.run, self.systems, self.options = run, systems, options
        self.kept, self.pace, self.counts = Kept(options.warm_bytes), Pace(), Counter[str]()
        self.fallback, self.default = options.fallback, ("", "")
        self.ragged, self._budget = False, TOKENS
        self._tokens, self._answering = Pace(), Answering(run, self.kept)
        self.clock: Clock = time.monotonic
        self.aside: Aside = lambda _: None
        "Lets something look at what waits, in the midst of a turn."
        self._between = Between(lambda: self.aside(self.hurry), lambda: self.clock())
        self._running, self._ends, self._lost = frozenset[Ask](), 0.0, 0.0

    def state(self) -> dict[str, int]:
        """What was done, and what is held."""
        return {**{name: self.counts[name] for name in COUNTS}, **self.kept.state()}

    def end(self) -> None:
        """Let go of what is kept; the run is as it was."""
        for scorer in self.run.scorers.values():
            if isinstance(scorer, LanguageScorer):
                scorer.keeper = None
        self._between.end()
        self.kept.clear()

    def load(self) -> None:
        run, scorers = self.run, self.run.scorers
        served = [scorers[name] for name in self.systems]
        models = [one for one in scorers.values() if isinstance(one, ConventionalScorer) and one.stage.complete()]
        if all(one.stage.complete() for one in served):
            choice = best(run.task, served)
            self.default = choice.scorer.name, choice.why
        if self.fallback is None and models:
            self.fallback = best(run.task, models).scorer.name
        if self.options.warm_bytes:
            for one in scorers.values():
                if isinstance(one, LanguageScorer):
                    one.keeper = self.kept
        if any(not one.ids_alone for one in served) and run.stages.need_backbone:
            self._budget = run.context.tokens_at_once
            self._between.watch(run.context.backbone.model)
        self._budget = self.options.tokens or self._budget
        self.ragged = run.task.now(0, np.zeros(1, np.int64)).listed_NC is None
        names = dict.fromkeys([*self.systems, *([self.fallback] if self.fallback else [])])
        for name in names:
            self._measure(scorers[name])
        for one in scorers.values():
            if isinstance(one, TwoTowerScorer) and "model" in vars(one):  # it was loaded, for itself or for a blend
                self._between.watch(one.model.encoder)
        self.kept.clear()
        self.counts.clear()

    def _measure(self, scorer: Scorer) -> None:
        """What it loads for the first request does not count."""
        dataset = self.run.context.dataset
        user, items = dataset.users.outside([0])[0], dataset.items.outside(np.arange(min(max(WARM_UP), dataset.n_items)))
        asks: list[Ask] = [
            ScoreAsk(user=user, system=scorer.name, items=tuple(items[:count]), ragged=self.ragged) for count in WARM_UP
        ]
        asks.append(ListAsk(user=user, system=scorer.name, n=1, allow_seen=True))
        for number, ask in enumerate(asks):
            self._answer([ask], scorer, measured=number > 0)
            error = ask.future.exception()
            if error is not None and not isinstance(error, ConfigError):
                raise error

    def grow(self, events: list[Event], users: list[Told], anew: list[str]) -> None:
        context = self.run.context
        before = len(context.dataset)
        context.extend(events, users=users, anew=anew)
        self.counts["events"] += len(context.dataset) - before
        for user in anew:
            self.kept.forget(int(context.dataset.users.inside([user])[0]))

    def forget(self, user: str) -> None:
        number = int(self.run.context.dataset.users.inside([user])[0])
        self.run.context.forget(user)
        self.kept.forget(number)
        for scorer in self.run.scorers.values():
            if isinstance(scorer, LanguageScorer):
                scorer.last = None  # perhaps the user's behaviours and u

    def turn(self, waiting: Sequence[Ask]) -> Collection[Ask]:
        """Some of what waits, and which that was."""
        gone = {ask for ask in waiting if ask.future.cancelled()}
        self.counts["cancelled"] += len(gone)
        made = self._planned([ask for ask in waiting if ask not in gone])
        hurried = self._hurried(made)
        if made.together:
            first, size = made.together[0], sum(ask.size for ask in made.together)
            self._running, self._ends = frozenset(made.together), self.clock() + self.pace.expect(first.work, size)
            try:
                self._answer(made.together, self.run.scorers[first.system])
            finally:
                self._running = frozenset()
        return {*gone, *hurried, *made.together}

    def hurry(self, waiting: Sequence[Ask]) -> Collection[Ask]:
        """In the midst of a turn: what cannot wait for its end, the quick model answers now; which requests that were."""
        if not self._running:
            return ()
        # Until a turn ends, what was answered at its beginning is among what waits.
        there = [ask for ask in waiting if ask not in self._running and not ask.future.done()]
        if all(ask.deadline is None for ask in there):
            return ()
        began = self.clock()
        hurried = self._hurried(self._planned(there, busy=max(0.0, self._ends - began)))
        self._lost += self.clock() - began
        return hurried

    def _planned(self, waiting: Sequence[Ask], busy: float = 0.0) -> Turn:
        return turn(
            waiting,
            self.clock(),
            fallback=self.fallback,
            seconds=self.pace.expect,
            tokens=self._tokens.mean,
            longest=self.options.turn,
            budget=self._budget,
            busy=busy,
        )

    def _hurried(self, made: Turn) -> Collection[Ask]:
        """What would be late is answered by the quick model, or refused where it would be late even then."""
        for ask in made.late:
            if ask.future.set_running_or_notify_cancel():
                ask.future.set_exception(DeadlineError(_late(ask, self.fallback)))
        self.counts["late"] += len(made.late)
        groups: dict[Hashable, list[Ask]] = {}
        for ask in made.quickly:
            groups.setdefault((ask.key, ask.system), []).append(ask)
        for asks in groups.values():
            assert self.fallback is not None
            why = "" if asks[0].system == self.fallback else f"'{asks[0].system}' would have missed the deadline"
            self._answer(asks, self.run.scorers[self.fallback], why)
        return [*made.late, *made.quickly]

    def _answer(self, asks: Sequence[Ask], scorer: Scorer, why: str = "", *, measured: bool = True) -> None:
        asks = [ask for ask in asks if ask.future.set_running_or_notify_cancel()]
        if not asks:
            return
        began, lost, before = self.clock(), self._lost, scorer.spent().tokens
        outcomes: Sequence[Outcome | Exception]
        try:
            outcomes = self._answering.of(asks, scorer, why)
        except Exception as error:  # noqa: BLE001 - a fault of ours: who asked gets it, and the worker goes on
            outcomes = [error] * len(asks)
        # An unknown user, who gets what is popular, and what was refused asked nothing of the scorer: it is no quicker by that.
        answered = [isinstance(one, Answer) and one.system == scorer.name for one in outcomes]
        kind, size = (asks[0].kind, scorer.name), sum(ask.size for ask, own in zip(asks, answered, strict=True) if own)
        if measured and size:
            self.pace.saw(kind, size, self.clock() - began - (self._lost - lost))
            self._tokens.saw(kind, size, float(scorer.spent().tokens - before))
        self.counts["turns"] += 1
        self.counts["tokens"] += scorer.spent().tokens - before
        for ask, outcome in zip(asks, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self.counts["refused" if isinstance(outcome, LifeloraError) else "failed"] += 1
                ask.future.set_exception(outcome)
            else:
                self.counts["stood in" if why else "answered"] += 1
                ask.future.set_result(outcome)


def _late(ask: Ask, fallback: str | None) -> str:
    stands_in = f"nor '{fallback}' in its place" if fallback not in (None, ask.system) else "and no other system stands in for it"
    return f"'{ask.system}' could not answer before the deadline, {stands_in}. Give more time, or ask again when less waits."
