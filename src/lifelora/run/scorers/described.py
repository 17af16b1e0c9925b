"""What a reader of a report is told of a system: what it reads, how much it learns from, its u. Knows recipes, asks no model."""

import json
from dataclasses import asdict
from pathlib import Path

from lifelora.artefacts import read_json, write_atomically
from lifelora.lora.summary import Summary
from lifelora.prompts.unnamed import IN_WORDS as IDS
from lifelora.prompts.unnamed import UNNAMED
from lifelora.recipe.system import RandomRepresentation, System
from lifelora.run.context import Context
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.run.scorers.seen import shown_in_words
from lifelora.run.scorers.sharing import told, why_never

SUMMARY = "summary.json"
"""In a system's folder: the size of its adapters, and the rank of its updates."""


def keep(folder: Path, summary: Summary) -> None:
    """In a system's folder, for ``facts``."""
    write_atomically(folder / SUMMARY, json.dumps(asdict(summary), indent=1))


def reads(context: Context, system: System, represents: ConventionalScorer | None, folder: Path) -> str:
    """Its line in the report."""
    train = len(context.dataset.samples["train"])
    count = train if system.train_samples is None else min(system.train_samples, train)
    said = f"{IDS if system.control == UNNAMED else 'words'}; {shown_in_words(system)}; {count:,} training samples"
    if system.mix_with is not None:
        said += f", each also with {system.mix_with.in_words()}"
    if isinstance(system.representation, RandomRepresentation):
        said += f"; u of {system.representation.width} numbers drawn at random for each user"
    elif system.representation is not None and represents is not None:
        said += f"; u {represents.from_(system.representation.layer)}"
    if system.coupling_on == "question":
        said += "; C(u) acts on the question alone"
    return said + told(folder)


def facts(name: str, system: System, u_sees_target: bool, folder: Path) -> list[tuple[str, str]]:
    """Of the system of that name."""
    made = read_json(folder / SUMMARY)
    found = [(f"adapters of {name}", f"coupling '{system.coupling.kind}' on {Summary(**made)}")]
    if why := why_never(system, u_sees_target):
        found.append((f"prompts of {name}", f"each is read by itself, one user's candidates too: {why}"))
    return found
