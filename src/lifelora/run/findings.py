"""From scores to a report: gathers what ``evaluation`` needs from the parts of a run. Knows words, computes no figure."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int

from lifelora import seeds
from lifelora.artefacts import read_json, write_atomically
from lifelora.data.sources.simulated import Simulated
from lifelora.evaluation.measured import Curves, figures
from lifelora.evaluation.metrics import auc
from lifelora.evaluation.report import (
    Behaviour,
    ExampleUser,
    Report,
    Shown,
    SystemResult,
    measure,
    plain_table,
)
from lifelora.llm.backbone import ABOUT
from lifelora.llm.nano import Nano
from lifelora.lora.summary import Summary
from lifelora.recipe.sections import Knowledge
from lifelora.recipe.system import AnyRepresentation, Representation
from lifelora.run import known
from lifelora.run.parts import SCORES, SUMMARY, Parts
from lifelora.run.stages import RECIPE_FILE
from lifelora.training import HISTORY
from lifelora.training.curve import History
from lifelora.types import LayerOrRandom

TABLE = "table.txt"
FIGURES = "evaluation.json"


def write(parts: Parts, seconds: Mapping[str, float | None], folder: Path) -> None:
    """The page, its pictures, all figures as JSON, and the table as text."""
    from lifelora.evaluation.page import write_report  # matplotlib only when a page is asked for

    report = gather(parts, seconds)
    measured = measure(report)
    write_report(folder, report, measured)
    write_atomically(folder / FIGURES, json.dumps(figures(measured), indent=1, ensure_ascii=False))
    write_atomically(folder / TABLE, plain_table(measured))


def gather(parts: Parts, seconds: Mapping[str, float | None]) -> Report:
    """Everything that the page tells."""
    recipe, dataset, stages = parts.recipe, parts.dataset, parts.stages
    rows = parts.test_samples
    targets = dataset.targets(rows)
    scores = {name: np.load(stages.scores(name).require() / SCORES) for name in stages.names}
    train = len(dataset.samples["train"])
    facts = [
        ("data", f"{dataset.name}: {len(dataset):,} interactions, {dataset.n_users:,} users, {dataset.n_items:,} items"),
        ("samples", " / ".join(f"{len(dataset.samples[p]):,} {p}" for p in ("train", "valid", "test"))),
        ("label", f"rating > {recipe.data.rules.label_above:g}; at least {recipe.data.rules.min_history} earlier behaviours"),
        ("split", recipe.data.rules.split.kind),
        ("seed", str(recipe.seed)),
        ("data hash", stages.data.key),
    ]
    if stages.need_backbone:
        facts.insert(4, ("language model", parts.backbone().label))
    systems = []
    for name, step in recipe.conventional.items():
        length, seen = getattr(step.model, "history_length", 0), min(step.train_samples or train, train)
        read = step.behaviours.in_words() if step.behaviours else f"the last {length} behaviours"
        reads = f"ids; {read}; {seen:,} training rows" if length else f"{train:,} training rows, no user"
        reads += f"; fields of {step.knowledge}: {_told(recipe.knowledge[step.knowledge])}" if step.knowledge else ""
        systems.append(SystemResult(name, "conventional", reads, scores[name],
                                    curves(stages.conventional(name).require()), seconds.get(f"fit/{name}")))
    for name, encoder in recipe.two_towers.items():
        reads = f"words; {encoder.behaviours.in_words()}; {min(encoder.train_samples or train, train):,} training rows"
        reads += "; only its head has learnt" if encoder.train == "head" else ""
        folder = stages.encoder(name).require()
        systems.append(SystemResult(name, "encoder", reads, scores[name], curves(folder), seconds.get(f"train/{name}")))
        facts.append((f"encoder of {name}", read_json(folder / ABOUT)["label"]))
    for name, system in recipe.systems.items():
        shots = train if system.train_samples is None else min(system.train_samples, train)
        reads = f"words; {system.behaviours.in_words()}; {shots:,} training rows"
        if system.mix_with is not None:
            reads += f", each also with {system.mix_with.in_words()}"
        if system.representation is not None:
            reads += f"; u {maker_of_u(parts, system.representation)}"
        if system.soft is not None:
            layer = system.soft.layer if "user" in system.soft.at else "final"
            reads += f"; soft tokens of {' and '.join(system.soft.at)} {maker(parts, system.soft.model, layer)}"
        systems.append(SystemResult(name, "language model", reads, scores[name],
                                    curves(stages.system(name).require()), seconds.get(f"train/{name}")))
        made = stages.system(name).folder / SUMMARY
        if made.exists():
            facts.append((f"adapters of {name}", f"coupling '{system.coupling.kind}' on {Summary(**read_json(made))}"))
    out = shlex.quote(str(stages.folder))
    return Report(
        title=recipe.about or recipe.name,
        facts=facts,
        systems=systems,
        user_N=targets.user_B, item_N=targets.item_B, label_N=targets.label_B,
        history_N=targets.position_B,
        reference=next(iter(recipe.systems), stages.names[0 if recipe.knowledge else -1]),
        best_possible_auc=_best_possible(parts, rows),
        example=_example(parts, rows, scores),
        notes=[*dataset.notes, *known.notes(parts), *(parts.vectors.notes if stages.need_vectors else ()), *about_nano(parts)],
        commands=[
            ("this run again", f"lifelora run {shlex.quote(str(stages.folder / RECIPE_FILE))} --out ANOTHER_FOLDER"),
            ("recommendations", f"lifelora recommend {out} --user {shlex.quote(example_user(parts))}"),
            ("the table", f"lifelora show {out}"),
        ],
        seed=recipe.seed,
        draws=recipe.evaluation.resamples,
    )


def _told(knowledge: Knowledge) -> str:
    text, vectors = knowledge.text, knowledge.vectors
    written = {"prompt": "questions", "lm": "texts of the language model", "endpoint": "texts of an endpoint"}[text.kind]
    read = {"hidden-states": "the language model", "sentence-encoder": getattr(vectors, "model", ""), "endpoint": "an endpoint"}
    return "vectors from files" if vectors.kind == "precomputed" else f"{written}, read by {read[vectors.kind]}"


def maker_of_u(parts: Parts, config: AnyRepresentation) -> str:
    """Where u comes from, for a reader of the report."""
    if isinstance(config, Representation):
        return maker(parts, config.model, config.layer)
    return f"of {config.width} numbers drawn at random for each user"


def maker(parts: Parts, name: str, layer: LayerOrRandom) -> str:
    """Where vectors come from, for a person."""
    if layer == "random":
        return "drawn at random for each user"
    train = len(parts.dataset.samples["train"])
    seen = min(parts.recipe.conventional[name].train_samples or train, train)
    of = "" if layer == "final" else f"layer '{layer}' of "
    return f"from {of}{name}, which saw {'all ' if seen == train else ''}{seen:,}"


def about_nano(parts: Parts) -> list[str]:
    """What a reader has to know of the small LM that was made on the spot."""
    if not parts.recipe.systems or not isinstance(parts.recipe.backbone, Nano):
        return []
    read = "" if parts.recipe.task == "next-item" else ", ratings and answers among them"
    return [f"The nano language model was pre-trained on item texts and training-period histories{read}: the shots are not all "
            "of the training labels that it has read."]


def example_user(parts: Parts) -> str:
    """The outside id of the user that the report tells about."""
    row = _example_row(parts, parts.test_samples)
    return parts.dataset.users.outside(parts.dataset.user_N[[row]])[0]


def _example_row(parts: Parts, rows: np.ndarray) -> int:
    # Drawn by seed, not picked: a story that was chosen for its ending proves nothing.
    return int(rows[seeds.generator(parts.recipe.seed, "example").integers(len(rows))])


def _best_possible(parts: Parts, rows: Int[np.ndarray, "N"]) -> float | None:
    source, dataset = parts.recipe.data.source, parts.dataset
    if not isinstance(source, Simulated):
        return None
    targets = dataset.targets(rows)
    truth_N = source.probability(
        dataset.users.outside(targets.user_B), dataset.items.outside(targets.item_B),
        np.asarray(dataset.time_N[rows]),
    )
    return auc(targets.label_B, truth_N)


def _example(parts: Parts, rows: np.ndarray, scores: Mapping[str, np.ndarray]) -> ExampleUser:
    dataset, row = parts.dataset, _example_row(parts, rows)
    target = dataset.targets(np.array([row]))
    shown = []
    for name, reader in (parts.recipe.two_towers | parts.recipe.systems).items():
        chosen_1K, mask_1K = parts.selector(reader.behaviours).select(dataset, target)
        how = f"{reader.behaviours.in_words()}: shown to {name}"
        shown.append(Shown(how, behaviours(parts, chosen_1K[mask_1K])))
    profile = dataset.profiles.slice(int(target.user_B[0]), 1).to_pylist()[0]
    place = int(np.flatnonzero(rows == row)[0])
    return ExampleUser(
        user=dataset.users.outside(target.user_B)[0],
        facts=[(name, value) for name, value in profile.items() if name != "user" and value],
        shown=shown, target=dataset.titles[int(target.item_B[0])], label=bool(target.label_B[0]),
        scores={name: float(score_N[place]) for name, score_N in scores.items()},
    )


def behaviours(parts: Parts, rows: np.ndarray) -> list[Behaviour]:
    """Event rows as a person reads them."""
    dataset = parts.dataset
    words, levels = dataset.words, dataset.rating_levels
    return [
        Behaviour(dataset.titles[item], f"{levels[code]:g} {words.star if levels[code] == 1 else words.stars}")
        for item, code in zip(dataset.item_N[rows].tolist(), dataset.rating_N[rows].tolist(), strict=True)
    ]


def curves(folder: Path) -> Curves | None:
    """How the training in a stage's folder went; None where nothing was trained."""
    path = folder / HISTORY
    if not path.exists():
        return None
    history = History.model_validate_json(path.read_text())
    return Curves(
        loss=[(point.step / history.steps_per_epoch, point.loss) for point in history.training],
        validation=[(e.step / history.steps_per_epoch, e.metrics["auc"]) for e in history.evaluations],
    )
