"""The recipes that come with lifelora, as text. Knows nothing of what they say, and imports nothing heavy."""

import tomllib
from importlib import resources


def built_in() -> dict[str, str]:
    """The recipes that come with lifelora: name → TOML text."""
    folder = resources.files("lifelora") / "recipe" / "builtin"
    return {
        e.name.removesuffix(".toml"): e.read_text(encoding="utf-8")
        for e in sorted(folder.iterdir(), key=lambda e: e.name)
        if e.name.endswith(".toml")
    }


def in_one_line() -> dict[str, str]:
    """What each of them is about."""
    return {name: tomllib.loads(text).get("about", "") for name, text in built_in().items()}
