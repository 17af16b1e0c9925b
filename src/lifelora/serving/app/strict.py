"""JSON as others send it, read without mercy: UTF-8, one value a key, numbers that are numbers. Knows no endpoint.

What other readers take in different ways (a key twice, NaN, half of a surrogate pair, a number beyond 64 bits) is refused, so
that nothing behind this door has to think of it.
"""

import json
import math
import re
from typing import Any, NoReturn

from lifelora.serving.app.problems import Refusal
from lifelora.serving.app.web import starlette

DIGITS = 20
"""Of a whole number; 2^64 has as many."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class StrictRequest(starlette.requests.Request):
    """A request whose JSON is read so."""

    async def json(self) -> Any:
        """Its body; Refusal (400) says what is wrong with it."""
        return read(await self.body())


def read(body: bytes) -> Any:
    """The value of a JSON text."""
    try:
        text = body.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_no_number, parse_float=_decimal, parse_int=_whole, object_pairs_hook=_distinct)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise _refused(f"byte {error.start:,} is not UTF-8; send JSON in UTF-8.") from None
    except UnicodeEncodeError:
        raise _refused("it has half of a surrogate pair (\\ud800 to \\udfff), which is no text.") from None
    except RecursionError:
        raise _refused("its brackets are nested too deeply.") from None
    except ValueError as error:
        raise _refused(f"{error}.") from None
    return value


def takes_json(content_type: str | None, coding: str | None) -> None:
    """Refusal (415) for a body that says that it is something else, or that it is packed: a few bytes can stand for very many."""
    if coding is not None and coding.strip().lower() not in ("", "identity"):
        told = f"'{coding[:60]}' came as Content-Encoding; send the body as it is."
        raise Refusal(415, "packed", told, headers={"Accept-Encoding": "identity"})
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        came = f"'{kind[:60]}'" if kind else "no Content-Type"
        raise Refusal(415, "not-json", f"{came} came; send the header 'Content-Type: application/json' and JSON in UTF-8.")


def _refused(what: str) -> Refusal:
    return Refusal(400, "not-json", f"the body is no JSON that is taken here: {what}")


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON; write null, or omit the field")


def _decimal(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits[:30]} is too large for a number")
    return value


def _whole(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a whole number has at most {DIGITS} digits here; {digits[:DIGITS]}… has {len(digits):,}")
    return int(digits)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen = set[str]()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} stands in one object twice")
    return made
