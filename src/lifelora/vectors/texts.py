"""What is known of an item, as one text. Knows no model and no user."""

import pyarrow as pa

from lifelora.data.fields import as_texts


def item_texts(catalogue: pa.Table, item: str) -> list[str]:
    """``The film Heat. Genre: Crime. Two men …``: all that is known of an item in words; empty where nothing is."""
    return [_item_text(row, item) for row in as_texts(catalogue).to_pylist()]


def _item_text(row: dict[str, str | None], item: str) -> str:
    known = {name: " ".join(value.split()) for name, value in row.items() if name != "item" and value and value.strip()}
    title, description = known.pop("title", None), known.pop("description", None)
    facts = [f"{' '.join(name.split()).capitalize()}: {value}." for name, value in known.items()]
    return " ".join(part for part in (f"The {item} {title}." if title else None, *facts, description) if part)
