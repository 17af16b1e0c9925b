"""POST /v1/score, GET /v1/recommend/{user} and POST /v1/rerank: what an engine is asked. Knows no model."""

from typing import Annotated, Any, Literal

from lifelora.errors import DataError
from lifelora.serving.app import rerank
from lifelora.serving.app.bodies import AnswerOut, Id, RerankBody, RerankOut, ScoreBody
from lifelora.serving.app.doors import Doors, Reading
from lifelora.serving.app.problems import Refusal, Wrong
from lifelora.serving.app.routes.common import (
    NO_USER,
    REFUSALS,
    Deadline,
    Request,
    Response,
    answer,
    few,
    metrics,
    no_user,
    seconds,
    service,
)
from lifelora.serving.app.waiting import answered
from lifelora.serving.app.web import fastapi
from lifelora.serving.engine import Answer

router = fastapi.APIRouter(route_class=Reading, responses=REFUSALS, tags=["ask"])
Cold = Literal["popularity", "refuse"]


@router.post("/v1/score", response_model=AnswerOut, responses=NO_USER, summary="Scores of candidates")
async def score(request: Request, body: ScoreBody, deadline: Deadline = None) -> Response:
    """Scores of candidates for a user, each as offline evaluation has it, in the order in which they came."""
    doors: Doors = request.app.state.doors
    few("candidates", len(body.candidates), doors.limits.candidates, "candidates")
    _known(request, body.user, body.cold)
    _items(request, body.candidates)
    future = service(request).ask(
        lambda engine: engine.score(
            body.user, body.candidates, body.system, deadline=seconds(request, deadline), cold=body.cold, reasons=body.reasons
        )
    )
    return answer(_told(request, "score", await answered(request, future)))


@router.get("/v1/recommend/{user:path}", response_model=AnswerOut, responses=NO_USER, summary="Items for a user")
async def recommend(
    request: Request,
    user: Annotated[Id, fastapi.Path(description="A user's id, percent-encoded; slashes may stay.", examples=["u00007"])],
    n: Annotated[int, fastapi.Query(ge=1, le=100_000, description="How many items.")] = 10,
    exclude: Annotated[list[Id], fastapi.Query(description="Items that are not to be recommended; may be repeated.")] = [],  # noqa: B006 - FastAPI copies it
    system: Annotated[str | None, fastapi.Query(description="Which system of the run; by default the best one.")] = None,
    where: Annotated[
        list[str],
        fastapi.Query(description="FIELD=VALUE: items with this value only; may be repeated.", examples=[["genre=Drama"]]),
    ] = [],  # noqa: B006
    allow_seen: Annotated[bool, fastapi.Query(description="Recommend also what the user has seen.")] = False,
    reasons: Annotated[bool, fastapi.Query(description="Whether to tell why.")] = True,
    cold: Annotated[Cold, fastapi.Query(description="What an unknown user gets: the most popular items, or 404.")] = "popularity",
    deadline: Deadline = None,
) -> Response:
    """The best items that a user has not seen, as `lifelora recommend` ranks them."""
    doors: Doors = request.app.state.doors
    few("n", n, doors.limits.candidates, "candidates")
    few("exclude", len(exclude), doors.limits.candidates, "candidates")
    _known(request, user, cold)
    future = service(request).ask(
        lambda engine: engine.recommend(
            user,
            n,
            system,
            exclude=exclude,
            where=where,
            allow_seen=allow_seen,
            deadline=seconds(request, deadline),
            cold=cold,
            reasons=reasons,
        )
    )
    return answer(_told(request, "recommend", await answered(request, future)))


@router.post("/v1/rerank", response_model=RerankOut, summary="Documents in a user's order (Jina's form)")
async def reranked(request: Request, body: RerankBody, deadline: Deadline = None) -> Response:
    """Documents, which are items, in the order of a query, which is a user: gorse's client calls it as it is.

    A document that is no item stands last, with a score below all others.
    """
    doors: Doors = request.app.state.doors
    few("documents", len(body.documents), doors.limits.candidates, "candidates")
    user = rerank.user_of(body.query)
    items = [rerank.item_of(document, place) for place, document in enumerate(body.documents)]
    there = service(request).live.engine.dataset.items
    known = [item for item in dict.fromkeys(items) if item in there]
    scores, model = dict[str, float | None](), body.model or rerank.BEST[1]
    if known:
        future = service(request).ask(
            lambda engine: engine.score(
                user, known, rerank.system_of(body.model), deadline=seconds(request, deadline), reasons=False
            )
        )
        told = await answered(request, future)
        metrics(request).answer("rerank", told.system, told.fallback)
        scores, model = {one.item: one.score for one in told.items}, told.system
    return answer({"model": model, "usage": {"total_tokens": 0}, "results": rerank.results(body, items, scores)})


def _told(request: Request, kind: str, told: Answer) -> dict[str, Any]:
    metrics(request).answer(kind, told.system, told.fallback)
    return told.as_json()


def _known(request: Request, user: str, cold: Cold) -> None:
    if cold == "refuse" and not service(request).knows(user):
        raise no_user("the models know no such user: there is no event that they use, or the user was forgotten.")


def _items(request: Request, candidates: list[str]) -> None:
    """Refusal that names each candidate that is no item."""
    items = service(request).live.engine.dataset.items
    wrong = [place for place, one in enumerate(candidates) if one not in items]
    if not wrong:
        return
    try:
        items.inside([candidates[place] for place in wrong])
    except DataError as error:
        what = {one.value: one.what for one in error.problems}
        told = [Wrong(f"candidates[{at}]", what.get(candidates[at], "unknown id"), candidates[at]) for at in wrong]
        raise Refusal(422, "no-such-item", f"{len(wrong):,} candidates are no items of the catalogue.", told) from None
