"""A run that answers: scores and recommendations for users who go on acting. Knows neither HTTP nor where events are kept."""

import gc
import secrets
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

import numpy as np

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event, Told
from lifelora.errors import ConfigError
from lifelora.owner import read
from lifelora.run.recommend.cold import NEW_USER, POPULARITY, Cold
from lifelora.run.recommend.told import asks_an_endpoint, tell_items, vectors_of
from lifelora.run.run import Run
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.serving.engine.answer import Answer, Past, pasts
from lifelora.serving.engine.ask import Ask, Asked, ListAsk, ScoreAsk, ToldAsk
from lifelora.serving.engine.options import EngineOptions
from lifelora.serving.engine.work import Work
from lifelora.serving.engine.worker import Worker


class Engine:
    """Answers requests out of a run. Its methods may be called by any thread; the models are called by its own alone.

    What it is told (events, items, who is to be forgotten) it knows until it is closed; nothing in the run's folder changes.
    """

    def __init__(self, run: Run, systems: Sequence[str] = (), options: EngineOptions | None = None) -> None:
        """``systems`` are those that may be asked; all of the run where none is named. Raises ConfigError for a name that the run
        does not have.
        """
        self.run, self.options = run, options or EngineOptions()
        there = list(run.scorers)
        models = [name for name, one in run.scorers.items() if isinstance(one, ConventionalScorer)]
        for name in systems:
            if name not in there:
                raise ConfigError(f"this run has no system '{name}'; it has {', '.join(there)}.")
        if self.options.fallback is not None and self.options.fallback not in models:
            raise ConfigError(
                f"EngineOptions(fallback = '{self.options.fallback}'): this run has no conventional model of this name; it has "
                f"{', '.join(models) or 'none'}."
            )
        self.systems = tuple(systems) or tuple(there)
        self.work = Work(run, self.systems, self.options)
        self._worker, self._held = Worker(self.work.turn, self.options.waiting), ExitStack()
        self.work.aside = self._worker.aside
        self._frozen = False

    def start(self) -> "Engine":
        """Load the models and measure them; from then on requests are answered. Other processes may read the run, and none write.

        Raises what loading raises, and BusyError where another process makes the run.
        """
        self._held.enter_context(read(self.run.folder))
        self._worker.start()
        try:
            self._worker.do(self.work.load).result()
        except BaseException:
            self.close(drain=False)
            raise
        self.settle()
        return self

    def settle(self) -> None:
        """What is loaded stays: no collection walks through it again, which takes tenths of seconds."""
        gc.collect()
        gc.freeze()
        self._frozen = True

    def __enter__(self) -> "Engine":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def score(
        self,
        user: str,
        candidates: Sequence[str],
        system: str | None = None,
        *,
        deadline: float | None = None,
        cold: Cold = POPULARITY,
        reasons: bool = True,
    ) -> "Future[Answer]":
        """Scores of candidates, each as evaluation has it, in the order in which they came.

        Without a ``system`` the best one on the validation samples answers; ``deadline`` is in seconds from now; ``cold`` says
        what an unknown user gets. Raises ConfigError for what is not allowed, FullError and ClosedError. The future raises
        DataError for unknown ids and DeadlineError; cancelled before its turn, it is not computed.
        """
        items = _ids(candidates, "candidates")
        if not 1 <= len(items) <= self.options.candidates:
            raise ConfigError(
                f"{len(items):,} candidates came; give 1 to {self.options.candidates:,} (EngineOptions.candidates)."
            )
        asked = self._asked(system, deadline)
        return self._put(ScoreAsk(user=user, **asked, cold=cold, reasons=reasons, items=items, ragged=self.work.ragged))

    def recommend(
        self,
        user: str,
        n: int = 10,
        system: str | None = None,
        *,
        exclude: Sequence[str] = (),
        among: Sequence[str] | None = None,
        where: Sequence[str] = (),
        allow_seen: bool = False,
        deadline: float | None = None,
        cold: Cold = POPULARITY,
        reasons: bool = True,
    ) -> "Future[Answer]":
        """The ``n`` best items that the user has not seen and that are not in ``exclude``, as `lifelora recommend` ranks them.

        A system that ranks few candidates gets them from its retriever or the run's best conventional model. ``among``,
        ``where`` and ``allow_seen`` are those of ``run.recommend``; the rest is as of ``score``.
        """
        if n < 1:
            raise ConfigError(f"n = {n} is not the length of a list; give 1 or more.")
        return self._put(
            ListAsk(
                user=user,
                **self._asked(system, deadline),
                cold=cold,
                reasons=reasons,
                n=n,
                exclude=_ids(exclude, "exclude"),
                among=None if among is None else _ids(among, "among"),
                where=tuple(where),
                allow_seen=allow_seen,
            )
        )

    def recommend_told(
        self,
        history: Sequence[tuple[str, float | None]],
        n: int = 10,
        system: str | None = None,
        *,
        deadline: float | None = None,
        reasons: bool = True,
    ) -> "Future[Answer]":
        """A list for a user whom the log lacks and who has this history: items, oldest first, each with a rating or None for
        the highest. Nothing of it is kept: when the answer is there, the engine is as it was.

        It waits for its turn as other requests do, and goes together with others of its kind. The future raises DataError for
        unknown items and ratings.
        """
        if n < 1:
            raise ConfigError(f"n = {n} is not the length of a list; give 1 or more.")
        user = f"{NEW_USER} {secrets.token_hex(16)}"
        return self._put(ToldAsk(user=user, **self._asked(system, deadline), reasons=reasons, n=n, history=tuple(history)))

    def add_events(self, events: Iterable[Event], users: Iterable[Told] = (), anew: Iterable[str] = ()) -> "Future[None]":
        """What happened, and what is told of new users, as of ``Dataset.extended``: whatever is computed from then on knows it.

        Of users who are told ``anew`` all that came since the run's data goes first, and what is warm of them. All of the events
        or none: the future raises DataError with all that is wrong.
        """
        events, users, anew = list(events), list(users), list(anew)
        return self._worker.do(lambda: self.work.grow(events, users, anew))

    def add_items(self, items: Iterable[Told]) -> "Future[list[str]]":
        """New items by their texts, with item vectors where the run has some; the future has notes for a reader.

        Vectors of an endpoint are waited for here, so that who asks for scores meanwhile does not wait: one thread at a time
        tells of items. Then this raises EndpointError where it does not answer soon, and ConfigError where it refuses.
        """
        items, context = list(items), self.run.context
        made = vectors_of(context, self.dataset.extended([], items=items), quick=True) if asks_an_endpoint(context) else None
        return self._worker.do(lambda: tell_items(context, items, made))

    def forget(self, user: str) -> "Future[None]":
        """Drop what the engine knows of a user, who is unknown from then on (``data.forget``); DataError for an unknown one.

        What is told of the user in the run's own folder stays there until its data are prepared anew.
        """
        return self._worker.do(lambda: self.work.forget(user))

    def history(self, user: str) -> tuple[Past, ...]:
        """All that the user did, oldest first; DataError for an unknown one."""
        dataset = self.dataset
        rows = dataset.log.rows_of(int(dataset.users.inside([user])[0]))
        return pasts(dataset, np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows)

    @property
    def dataset(self) -> Dataset:
        """What is known of users, items and events, for any thread."""
        return self.run.context.settled

    @property
    def best(self) -> str:
        """The system that answers where none is named; empty where none is known to be the best."""
        return self.work.default[0]

    def state(self) -> dict[str, int]:
        """Numbers for who watches: what was done since the start, and what is held now."""
        return {"waiting": len(self._worker), **self.work.state()}

    def close(self, *, drain: bool = True, timeout: float | None = None) -> bool:
        """Answer what waits (or refuse it, with ``drain`` off) and stop; whether all was done within ``timeout`` seconds."""
        done = self._worker.close(drain=drain, timeout=timeout)
        if done:
            self.work.end()
            self._held.close()
            if self._frozen:  # it is the process's: another engine that goes on has to settle again
                gc.unfreeze()
        return done

    def _asked(self, system: str | None, deadline: float | None) -> Asked:
        if system is None and not self.work.default[0]:
            raise ConfigError(f"name a system: not all of {', '.join(self.systems)} are trained, so that none is the best.")
        if system is not None and system not in self.systems:
            raise ConfigError(f"this engine has no system '{system}'; it has {', '.join(self.systems)}.")
        name, why = self.work.default if system is None else (system, "")
        return {"system": name, "why": why, "deadline": None if deadline is None else self.work.clock() + deadline}

    def _put(self, ask: Ask) -> "Future[Answer]":
        self._worker.put(ask)
        return ask.future


def _ids(ids: Sequence[str], called: str) -> tuple[str, ...]:
    if isinstance(ids, str) or not all(isinstance(one, str) for one in ids):
        raise ConfigError(f"{called} are ids, each a text; {str(ids)[:80]!r} came.")
    return tuple(ids)
