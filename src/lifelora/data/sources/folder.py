"""Which files of a folder are a log, a catalogue, profiles and candidate lists, by their names. Knows no column."""

import re
from pathlib import Path

from lifelora.data.opened import ENDINGS as PACKED
from lifelora.data.parts import WORDS as PART_WORDS
from lifelora.errors import ConfigError
from lifelora.types import Part

ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl", ".ndjson")
WORDS = (".txt", ".json")
"""Endings that files about the data have, too."""
STEMS = {
    "interactions": {
        "interactions",
        "log",
        "ratings",
        "events",
        "reviews",
        "purchases",
        "orders",
        "transactions",
        "clicks",
        "plays",
    },
    "catalogue": {"items", "catalogue", "catalog", "products", "goods", "articles", "movies", "films", "books", "songs", "tracks"}
    | {"games", "artists"},
    "candidates": {"candidates"},
    "profiles": {"users", "profiles", "customers", "clients", "members", "readers", "visitors"},
}
"""What files of each table may be called, in small letters; without an s at the end, too."""
MEND = "name your files in a TOML file and give its path: tables:PATH.toml"


def tables_in(folder: Path) -> tuple[dict[str, str | dict[str, str]], list[str]]:
    """The files of each table, and notes of what is taken and what is not read; those of a log may be one for each part.

    Raises ConfigError where it is not clear which file is what.
    """
    found, others = dict[str, list[Path]](), list[Path]()
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except (OSError, ValueError):
        raise ConfigError(f"'{folder}': no such folder, or none that may be seen; {MEND}.") from None
    for path in paths:
        stem, ending = _parts(path.name)
        table = next((table for table, stems in STEMS.items() if stem in stems or f"{stem}s" in stems), None)
        if ending is not None and table:
            found.setdefault(table, []).append(path)
        elif ending:
            others.append(path)
    in_parts = {} if "interactions" in found else _in_parts(others)
    others = [path for path in others if path not in in_parts.values()]
    if "interactions" not in found and not in_parts:
        there = ", ".join(path.name for path in paths[:20]) or "no files"
        raise ConfigError(
            f"'{folder}' holds no interactions.csv (or {', '.join(ENDINGS[1:])}, perhaps packed), nor one file "
            f"each for train, valid and test ({there}); {MEND}."
        )
    for table, several in found.items():
        if len(several) > 1:
            listed = " and ".join(f"'{path.name}'" for path in several)
            raise ConfigError(f"'{folder}': {listed} may each be the {table}; keep one of them there, or {MEND}.")
    unknown = [path.name for path in others if _parts(path.name)[1] not in WORDS]
    if unknown:
        listed = ", ".join(f"'{name}'" for name in unknown[:10])
        known = "interactions, items and users, or like ratings, products and customers"
        raise ConfigError(
            f"'{folder}': {listed}: not known by name; call what is meant {known}, and move other files; or {MEND}."
        )
    tables: dict[str, str | dict[str, str]] = {table: str(path) for table, (path,) in found.items()}
    notes = []
    if in_parts:
        tables["interactions"] = {part: str(path) for part, path in in_parts.items()}
        notes.append(
            f"the parts of the log by their names: {', '.join(f'{part} = {path.name}' for part, path in in_parts.items())}."
        )
    if "candidates" in found:
        notes.append(f"candidate lists by their name: {found['candidates'][0].name}.")
    notes += [f"files of the folder that nothing reads: {', '.join(path.name for path in others[:20])}."] if others else []
    return tables, notes


def _in_parts(paths: list[Path]) -> dict[Part, Path]:
    """The one file of each part; none where a part has none, or has several."""
    of = {part: [path for path in paths if _parts(path.name)[0] in words] for part, words in PART_WORDS.items()}
    return {part: path for part, (path,) in of.items()} if all(len(several) == 1 for several in of.values()) else {}


def _parts(name: str) -> tuple[str, str | None]:
    """The plain stem, and the format's ending: empty where a packed file does not say, None where it is no table."""
    lower = name.lower()
    inner = next((lower.removesuffix(ending) for ending in PACKED if lower.endswith(ending)), None)
    stem, dot, ending = (lower if inner is None else inner).rpartition(".")
    if dot and f".{ending}" in ENDINGS:
        return re.sub(r"[\W_]+", "", stem), f".{ending}"
    return re.sub(r"[\W_]+", "", inner or lower), "" if inner is not None else None
