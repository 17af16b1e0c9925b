"""Where a request belongs, as W3C's Trace Context says it: read from headers, passed on in the answer and the log. Knows no HTTP.

A header that is not as the standard has it is not passed on: the request then begins a trace of its own.
"""

import re
import secrets
from dataclasses import dataclass

FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
STATE = re.compile(
    r"(?:[a-z0-9][_0-9a-z\-*/]{0,255}|[a-z0-9][_0-9a-z\-*/]{0,240}@[a-z][_0-9a-z\-*/]{0,13})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{1,256}"
)
MEMBERS, LENGTH = 32, 512
"""The most members of a tracestate, and characters that have to be passed on."""


@dataclass(frozen=True)
class Trace:
    """A request's place in a trace."""

    id: str
    span: str
    "Ours: what the answer and the log call this request."
    flags: str = "00"
    state: str | None = None

    @classmethod
    def of(cls, parent: str | None, state: str | None) -> "Trace":
        """By the headers ``traceparent`` and ``tracestate``."""
        span = secrets.token_hex(8)
        found = FORM.fullmatch(parent or "")
        if found is None or not _valid(found):
            return cls(secrets.token_hex(16), span)
        flags = "01" if int(found[4], 16) & 1 else "00"
        return cls(found[2], span, flags, state if state and _valid_state(state) else None)

    @property
    def parent(self) -> str:
        """The header ``traceparent`` of what this request calls, and of its answer."""
        return f"00-{self.id}-{self.span}-{self.flags}"


def _valid(found: re.Match[str]) -> bool:
    version, identity, span, more = found[1], found[2], found[3], found[5]
    return version != "ff" and set(identity) != {"0"} and set(span) != {"0"} and not (version == "00" and more)


def _valid_state(state: str) -> bool:
    members = [one.strip(" \t") for one in state.split(",") if one.strip(" \t")]
    names = [one.partition("=")[0] for one in members]
    fits = 0 < len(members) <= MEMBERS and len(state) <= LENGTH and len(set(names)) == len(names)
    return fits and all(STATE.fullmatch(one) for one in members)
