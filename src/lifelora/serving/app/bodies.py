"""What is sent to the service and what it answers, field by field, with examples. Knows no endpoint; checks forms, not facts.

Ids are texts as the event store keeps them: in Unicode's composed form, without blanks around them, of at most 1,000 bytes.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from lifelora.errors import DataError
from lifelora.serving.store.events import known_id


def _id(text: str) -> str:
    try:
        return known_id(text)
    except DataError as error:
        raise ValueError(error.problems[0].what) from None


def _a_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("a text has no NUL")
    return value


Id = Annotated[str, AfterValidator(_id)]
Text = Annotated[str, AfterValidator(_a_text)]


class Sent(BaseModel):
    """What a client sends: no other fields, no numbers as texts."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Told(BaseModel):
    """What is answered."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ScoreBody(Sent):
    """A user, and items to score."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user": "u00007", "candidates": ["b00012", "b00003"], "system": "personal"}]}
    )
    user: Id
    candidates: list[Id] = Field(min_length=1)
    "Items of the catalogue; they come back in this order."
    system: str | None = None
    "Which system of the run; by default the best one on the validation samples."
    reasons: bool = True
    "Whether to tell the behaviours that were shown, the nearest of them, and the weights."
    cold: Literal["popularity", "refuse"] = "popularity"
    "What an unknown user gets: shares of the training events, or 404."


class BehaviourBody(Sent):
    """An item of a history that is told and not kept."""

    item: Id
    rating: float | None = None
    "One of the data set's; none is the highest."


class ToldBody(Sent):
    """A history, oldest first, of a user whom the log lacks."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"history": [{"item": "b00012", "rating": 5}, {"item": "b00003"}], "n": 5}]}
    )
    history: list[BehaviourBody] = Field(min_length=1)
    n: int = Field(default=10, ge=1, le=100_000)
    system: str | None = None
    reasons: bool = True


class EventBody(Sent):
    """A user did something with an item."""

    user: Id
    item: Id
    rating: float | None = None
    "One of the data set's; not looked at where it has none."
    time: float | None = None
    "Unix seconds; not looked at where the data set has no times."
    id: Id | None = None
    "The client's key of this event: what is sent again under it is kept once."


class EventsBody(Sent):
    """A bulk of events: all are kept, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"events": [{"user": "u00007", "item": "b00012", "rating": 5, "time": 1800000000, "id": "order-1042-line-1"}]}
            ]
        }
    )
    events: list[EventBody] = Field(min_length=1)


class ItemsBody(Sent):
    """New items: each with its id, and texts of the catalogue's columns."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"item": "b90001", "title": "The Quiet Harbour", "description": "A novel."}]}]}
    )
    items: list[dict[Text, Text | list[Text]]] = Field(min_length=1)


class RerankBody(BaseModel):
    """Jina's form: a query, which says the user, and documents, which are items. Fields that are not listed are not looked at."""

    model_config = ConfigDict(
        strict=True,
        use_attribute_docstrings=True,
        json_schema_extra={
            "examples": [{"model": "lifelora", "query": '{"user":"u00007"}', "documents": ["b00012", "b00003"], "top_n": 2}]
        },
    )
    query: str
    'A user\'s id, or JSON: {"user": "u00007"}.'
    documents: list[str | dict[str, Any]]
    'Items\' ids, each as a text or as {"text": "b00012"}.'
    model: str | None = None
    "A system of the run; lifelora, or nothing, is the best one on the validation samples."
    top_n: int | None = Field(default=None, ge=0, le=2**31)
    "How many results; none or 0: all."
    return_documents: bool = False


class PastOut(Told):
    """An event of a history, as models are shown it."""

    item: str
    title: str
    rating: str
    time: int | None


class PlacedOut(Told):
    """An item and its place."""

    item: str
    title: str
    rank: int
    score: float | None
    "None where the system cannot know the item."
    nearest: PastOut | None = None
    shown: list[PastOut] | None = None


class WeightsOut(Told):
    """What C(u) is made of, or a blend."""

    of: str
    names: list[str]
    values: list[float]


class AnswerOut(Told):
    """Items for a user, by which system, and why."""

    user: str
    system: str
    "Which answered."
    asked: str
    items: list[PlacedOut]
    shown: list[PastOut]
    weights: WeightsOut | None
    fallback: bool
    "Whether another system answered than the one that was asked, and ``why``."
    why: str
    note: str
    run: dict[str, str]


class AcceptedOut(Told):
    """What became of an event."""

    seq: int | None
    "Its number in the store; none where its key is another event's, which stays."
    new: bool
    "Whether it was not there already."
    used: bool
    "Whether the models know it; else ``why`` not."
    why: str = ""


class EventsOut(Told):
    """What became of a bulk: every event is on disk."""

    events: list[AcceptedOut]
    new: int
    used: int


class ItemOut(Told):
    """What became of an item."""

    item: str
    new: bool
    "False where it is known already: its texts stay until a new run is served."


class ItemsOut(Told):
    """What became of items."""

    items: list[ItemOut]
    new: int
    notes: list[str]
    "What a reader should know, such as texts of which no vectors could be made."


class DidOut(PastOut):
    """An event of a user."""

    title: str | None  # type: ignore[assignment]
    used: bool
    "Whether the models know it; else ``why`` not."
    why: str = ""


class UserOut(Told):
    """All that is kept of what a user did, oldest first."""

    user: str
    events: list[DidOut]


class RankedOut(Told):
    """A document's place: the first result is the best."""

    index: int
    relevance_score: float
    document: dict[str, str] | None = None


class UsageOut(Told):
    """What Jina counts; requests that are answered together share their tokens, so it is 0."""

    total_tokens: int = 0


class RerankOut(Told):
    """Jina's answer."""

    model: str
    usage: UsageOut
    results: list[RankedOut]


class ProblemOut(Told):
    """RFC 9457: what came, what is allowed, and the mend."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None
    more_errors: int | None = None
    trace: str | None = None
