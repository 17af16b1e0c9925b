"""What became of a fault run's events and answers: the store against the clients' diaries, and each answer computed again.

An answer is right where a fresh engine, told of the user's events up to then, gives the same scores to rounding. Knows no
process.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from diary import Diary, Line

from lifelora.data.extend import Event
from lifelora.run import Run
from lifelora.serving.engine import Engine
from lifelora.serving.store import Store

CLOSE = 1e-5
"""Scores of one request, alone or beside others in a batch."""


def events(diaries: Sequence[Diary], store: Store) -> dict[str, int]:
    """How many were acknowledged; lost, doubled, in another place than sent, or of nobody: each has to be 0."""
    found = Counter[str](acknowledged=0, lost=0, doubled=0, misplaced=0, unknown=0, pending=0)
    for diary in diaries:
        found["pending"] += diary.pending is not None
        users = {*diary.kept, *([diary.pending["user"]] if diary.pending else [])}
        for user in sorted(users):
            sent, there = diary.kept.get(user, []), list(store.history(user))
            ids, kept = Counter(one.id for one in there), {one.id: one for one in there}
            found["acknowledged"] += len(sent)
            found["lost"] += sum(not _same(one, kept.get(one["id"])) for one in sent)
            found["doubled"] += sum(count - 1 for count in ids.values())
            may = [one["id"] for one in sent] + [diary.pending["id"] if diary.pending and diary.pending["user"] == user else None]
            found["unknown"] += sum(one.id not in may for one in there)
            order = [one.id for one in sorted(there, key=lambda one: one.seq)]
            found["misplaced"] += [one.id for one in there] != order or order[: len(sent)] != may[: len(sent)]
    return dict(found)


def answers(diaries: Sequence[Diary], run: Run) -> dict[str, Any]:
    """How many were right; those of one number of events are computed together, for all users."""
    waves: dict[int, list[Line]] = defaultdict(list)
    for diary in diaries:
        for answer in diary.answers:
            waves[answer["asked"]["events"]].append(answer)
    kept = {user: sent for diary in diaries for user, sent in diary.kept.items()}
    found, furthest, wrong = Counter[str](), 0.0, list[Line]()
    with Engine(run) as engine:
        for number in range(1, max(map(len, kept.values()), default=0) + 1):
            new = [sent[number - 1] for sent in kept.values() if len(sent) >= number]
            engine.add_events([Event(one["user"], one["item"], one["rating"], one["time"]) for one in new]).result()
            for answer, future in [(one, _again(engine, one)) for one in waves[number]]:
                items = [(one.item, one.score) for one in future.result().items]
                distance = apart(answer["items"], items)
                kind = "score" if "candidates" in answer["asked"] else "recommend"
                found[kind] += 1
                found[f"by {answer['by']}"] += 1
                found["stood in"] += answer["fallback"]
                furthest = max(furthest, distance)
                if distance > CLOSE:
                    found["wrong"] += 1
                    wrong.append(answer | {"right": items})
    return {**found, "wrong": found["wrong"], "largest difference": furthest, "first wrong ones": wrong[:3]}


def _again(engine: Engine, answer: Line) -> Any:
    asked = answer["asked"]
    if "candidates" in asked:
        return engine.score(asked["user"], asked["candidates"], answer["by"], reasons=False)
    return engine.recommend(asked["user"], len(answer["items"]), answer["by"], reasons=False)


def _same(sent: Line, kept: Any) -> bool:
    return kept is not None and all(getattr(kept, name) == sent[name] for name in ("user", "item", "rating", "time", "seq"))


def apart(came: Sequence[Any], right: Sequence[Any]) -> float:
    """The largest difference of an item's scores; 1 where an item stands there that should not, or in another place.

    Of items whose scores are equal to rounding any may stand first, and any may be the last of a list.
    """
    if len(came) != len(right):
        return 1.0
    own, found = dict(right), 0.0
    for (item, score), (_, there) in zip(came, right, strict=True):
        if score is None or there is None:
            found = max(found, float(item not in own or score != own[item] or score != there))
        else:
            found = max(found, abs(score - own.get(item, there)), float(abs(score - there) > CLOSE))
    return found
