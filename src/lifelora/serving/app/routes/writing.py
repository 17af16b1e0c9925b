"""POST and PUT /v1/events, POST /v1/items: what is kept, and then told to the engine. Knows no model."""

from lifelora.errors import DataError
from lifelora.serving.app.bodies import AcceptedOut, EventsBody, EventsOut, ItemsBody, ItemsOut
from lifelora.serving.app.doors import Doors, Writing
from lifelora.serving.app.problems import Refusal, Wrong
from lifelora.serving.app.routes.common import REFUSALS, Request, Response, answer, few, metrics, service
from lifelora.serving.app.waiting import in_thread
from lifelora.serving.app.web import fastapi
from lifelora.serving.store import NewEvent
from lifelora.serving.store.events import known_id

router = fastapi.APIRouter(route_class=Writing, responses=REFUSALS, tags=["write"])
STAYS = "another event came first under this key, and stays"


@router.post("/v1/events", response_model=EventsOut, summary="Keep events; of a key the first stays")
async def post(request: Request, body: EventsBody) -> Response:
    """Keep events, all or none: with the answer they are on disk, and the models know them (`used`), or it is said why not.

    What came first under an `id` stays: a later event of that `id` with other content is not kept (`seq` is null).
    """
    return await _kept(request, body, first_stays=True)


@router.put("/v1/events", response_model=EventsOut, summary="Keep events exactly so, each under its key")
async def put(request: Request, body: EventsBody) -> Response:
    """The same for events that all have an `id`. One whose `id` stands for another event already is a conflict (409), and
    nothing is kept: what has happened is not overwritten.
    """
    wrong = [
        Wrong(f"events[{place}].id", "PUT needs the key of each event") for place, one in enumerate(body.events) if one.id is None
    ]
    if wrong:
        raise Refusal(422, "invalid", f"{len(wrong):,} events have no id; give one, or POST them.", wrong)
    return await _kept(request, body, first_stays=False)


@router.post("/v1/items", response_model=ItemsOut, summary="Tell of new items")
async def items(request: Request, body: ItemsBody) -> Response:
    """New items by their texts: kept, and candidates from now on. Of a known item the texts stay, and `new` is false."""
    doors: Doors = request.app.state.doors
    few("items", len(body.items), doors.limits.events, "events")
    told, wrong = [], []
    for place, item in enumerate(body.items):
        try:
            told.append({**item, "item": known_id(item.get("item"), "item")})
        except DataError as error:
            wrong.append(Wrong(f"items[{place}].item", error.problems[0].what, error.problems[0].value))
    if wrong:
        raise Refusal(422, "invalid", f"{len(wrong):,} items have no id that is one; nothing was done.", wrong)
    new, notes = await in_thread(service(request).add_items, told)
    made = [{"item": one["item"], "new": is_new} for one, is_new in zip(told, new, strict=True)]
    return answer({"items": made, "new": sum(new), "notes": notes})


async def _kept(request: Request, body: EventsBody, first_stays: bool) -> Response:
    doors: Doors = request.app.state.doors
    few("events", len(body.events), doors.limits.events, "events")
    events = [NewEvent(one.user, one.item, one.rating, one.time, one.id) for one in body.events]
    accepted = await in_thread(service(request).keep, events, first_stays)
    left_out = service(request).live.left_out
    made = [
        AcceptedOut(seq=None, new=False, used=False, why=STAYS)
        if one is None
        else AcceptedOut(seq=one.seq, new=one.new, used=not (why := left_out(one.seq)), why=why)
        for one in accepted
    ]
    new, used = sum(one.new for one in made), sum(one.used for one in made)
    used_new = sum(one.new and one.used for one in made)
    metrics(request).events(used_new, new - used_new, len(made) - new)
    return answer({"events": [one.model_dump() for one in made], "new": new, "used": used})
