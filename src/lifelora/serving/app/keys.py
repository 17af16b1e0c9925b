"""Who may come in: keys, what each may do, and the file that has them. Knows no endpoint.

A key is looked for by its SHA-256, and compared with every key that there is in a time that tells nothing. No key is kept,
shown or logged.
"""

import hashlib
import hmac
import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat, ValidationError, model_validator

from lifelora import foreign
from lifelora.errors import ConfigError
from lifelora.serving.app.limits import Limits
from lifelora.types import Frozen

Role = Literal["read", "write", "admin"]
ROLES: tuple[Role, ...] = ("read", "write", "admin")
"""Each may do what those before it may."""
LEAST = 16
"""Characters of a key."""
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
MAKE = "python -c 'import secrets; print(secrets.token_urlsafe(32))' makes a key"


class Key(Frozen):
    """A key as the file has it: section ``[keys.NAME]``."""

    role: Role
    "read: scores, recommendations, histories; write: events and items, too; admin: all."
    sha256: str | None = None
    "Of the key's UTF-8, in hexadecimal: with it nothing in the file opens a door."
    key: str | None = None
    "Or the key itself."
    rate: PositiveFloat | None = None
    "Requests a second; None: as ``limits.rate`` has it."

    @model_validator(mode="after")
    def _one(self) -> "Key":
        if (self.sha256 is None) == (self.key is None):
            raise ValueError("give sha256 or key, one of them")
        if self.sha256 is not None and not SHA256.fullmatch(self.sha256):
            raise ValueError("sha256 has 64 hexadecimal digits")
        if self.key is not None and (
            len(self.key) < LEAST or not self.key.isascii() or not self.key.isprintable() or " " in self.key
        ):
            raise ValueError(f"a key has at least {LEAST} characters of ASCII and no blank; {MAKE}")
        return self

    @property
    def digest(self) -> bytes:
        """What is compared."""
        return hashlib.sha256(self.key.encode()).digest() if self.key is not None else bytes.fromhex(self.sha256 or "")


class File(Frozen):
    """The file of keys, in TOML or JSON."""

    keys: dict[str, Key]
    limits: Limits = Limits()


@dataclass(frozen=True)
class Keys:
    """All keys of a service; none lets all in, and then only this machine may call."""

    named: dict[str, Key] = field(default_factory=dict, repr=False)

    def find(self, authorization: str | None) -> tuple[str, Key] | None:
        """The name of the key of a header ``Authorization``, and what it may; None where there is none such."""
        scheme, _, word = (authorization or "").partition(" ")
        came = hashlib.sha256(word.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for name, key in self.named.items():
            if hmac.compare_digest(came, key.digest):
                found = name, key
        return found if scheme.lower() == "bearer" else None


def allows(key: Key, role: Role) -> bool:
    """Whether a key may do what needs a role."""
    return ROLES.index(key.role) >= ROLES.index(role)


def opened(path: Path | None) -> tuple[Keys, Limits]:
    """What a file says; ConfigError, without anything that it holds, for one that cannot be read."""
    if path is None:
        return Keys(), Limits()
    try:
        text = foreign.text(path)
        values = foreign.json_value(text) if path.suffix == ".json" else foreign.toml(text)
        read = File.model_validate(values)
    except foreign.Unreadable:
        raise ConfigError(f"--keys {path} cannot be read; give TOML, or JSON in a file that is called .json, in UTF-8.") from None
    except ValidationError as error:
        told = "\n".join(f"  {'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}" for one in error.errors())
        raise ConfigError(
            f'--keys {path} is not as it should be:\n{told}\nEach key is a section: [keys.NAME] with role = "read", "write" or '
            f'"admin", and sha256 = "…" or key = "…"; {MAKE}.'
        ) from None
    if not read.keys:
        raise ConfigError(f"--keys {path} has no key; write [keys.NAME] with a role and sha256 or key; {MAKE}.")
    digests = [key.digest for key in read.keys.values()]
    if len(set(digests)) < len(digests):
        raise ConfigError(f"--keys {path} has one key under two names; give each name its own.")
    return Keys(read.keys), read.limits


def loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def may_bind(host: str, keys: Keys) -> None:
    """ConfigError for a host that others can reach, where there are no keys."""
    if not keys.named and not loopback(host):
        raise ConfigError(
            f"--host {host} can be reached from other machines, and without keys all of them may read and change what is known "
            "of users. Give --keys FILE, or --host 127.0.0.1 behind a proxy that asks for a password."
        )
