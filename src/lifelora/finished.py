"""Finished texts, kept at once and made only once: what was killed goes on with what is missing. Knows no maker of them.

The file has one JSON object a line, found by the SHA-256 of what made the text and of its prompt. So a prompt that comes twice
is written once, and different makers can share the file.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from lifelora.artefacts import canonical
from lifelora.errors import ArtefactError
from lifelora.progress import Progress

BLOCK = 2048
"Prompts that are held and sorted by length at one time."
Keep = Callable[[Sequence[str], Sequence[str]], None]
"""Takes prompts and their texts, to be kept for good; any thread may call it."""


@final
class Store:
    """Finished texts of one maker in a file of JSON lines; a last line that was torn by a kill is dropped."""

    def __init__(self, path: Path, maker: Mapping[str, Any]) -> None:
        self.path, self._maker = path, canonical(dict(maker))
        self._lock = threading.Lock()
        self._texts = self._read()

    def key(self, prompt: str) -> str:
        """SHA-256 of maker and prompt."""
        return hashlib.sha256(canonical({"maker": self._maker, "prompt": prompt}).encode()).hexdigest()

    def __contains__(self, key: str) -> bool:
        return key in self._texts

    def __getitem__(self, key: str) -> str:
        return self._texts[key]

    def add(self, texts: Mapping[str, str]) -> None:
        """Texts by key, on disk when this returns."""
        lines = "".join(json.dumps({"key": key, "text": text}) + "\n" for key, text in texts.items())
        with self._lock:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                stream.write(lines.encode())
                stream.flush()
                os.fsync(stream.fileno())
            self._texts.update(texts)

    def _read(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        texts: dict[str, str] = {}
        with self.path.open("rb") as stream:
            whole = 0
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    row = json.loads(line)
                    texts[str(row["key"])] = str(row["text"])
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    raise ArtefactError(
                        f"{self.path}:{number} is damaged ({error}); delete this line: what it held is written "
                        "again, and nothing else."
                    ) from error
                whole += len(line)
        if whole < self.path.stat().st_size:
            os.truncate(self.path, whole)
        return texts


def finished(
    prompts: Sequence[str], store: Store, make: Callable[[list[str], Keep], None], name: str, progress: bool = True
) -> list[str]:
    """The text of every prompt: what the store has, and what ``make`` makes of the rest; an empty prompt's is empty.

    ``make`` gets a block of different prompts and must keep a text for each.
    """
    keys = [store.key(prompt) if prompt.strip() else "" for prompt in prompts]
    places = {key: place for place, key in reversed(list(enumerate(keys))) if key}
    missing = sorted(place for key, place in places.items() if key not in store)
    lock = threading.Lock()
    with Progress(name, len(places), unit="texts", done=len(places) - len(missing), enabled=progress) as bar:

        def keep(made: Sequence[str], texts: Sequence[str]) -> None:
            store.add({store.key(prompt): text for prompt, text in zip(made, texts, strict=True)})
            with lock:
                bar.advance(len(made))

        for start in range(0, len(missing), BLOCK):
            make([prompts[place] for place in missing[start : start + BLOCK]], keep)
    return [store[key] if key else "" for key in keys]
