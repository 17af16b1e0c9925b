"""What the plain server needs of a run: a cohort's adapters in PEFT's layout, and the texts that its prompts are made of.

Texts and answers are lifelora's own, so that both servers read the same tokens; whether they do is checked here, token by token.
"""

import json
from pathlib import Path

import numpy as np

from lifelora.prompts.lines.base import table_texts
from lifelora.run import Run
from lifelora.run.cohort import cohort
from lifelora.run.export import COHORT, export
from lifelora.run.scorers.yes_no import YesNo

CHECKED = 20
"""Items of which each user's prompt is compared token by token."""


def users_of(run: Run, count: int) -> list[str]:
    """Those with the most events."""
    return cohort(run.context.dataset, str(min(count, run.context.dataset.n_users)))


def written(run: Run, system: str, users: list[str], folder: Path) -> dict[str, int]:
    """Write them; adapters that are there for the same users stay. How long prompts are, and how many were compared.

    Raises SystemExit where a text, tokenised as a whole, has other tokens than lifelora's prompt.
    """
    scorer = run.scorers[system]
    assert isinstance(scorer, YesNo)
    if not (folder / "adapters" / COHORT).is_file():
        export(run, folder / "adapters", system=system, users=users, item=None)
    names = json.loads((folder / "adapters" / COHORT).read_text())
    if list(names) != users:
        raise SystemExit(f"{folder} has adapters of other users; give another folder, or remove it.")
    dataset, template, words = run.context.dataset, scorer.system.template, run.context.dataset.words.model_dump()
    template, texts = template.leaving_out(dataset.left_out), table_texts(dataset.catalogue)
    ids = [str(item) for item in dataset.items.outside(np.arange(dataset.n_items))]
    question = [template.question_lines(words, text) for text in texts]
    before, lengths = dict[str, str](), list[int]()
    for user in users:
        number = int(dataset.users.inside([user])[0])
        requests = run.task.now(number, np.arange(CHECKED))
        rows = scorer.shown(requests)[0]
        profile = table_texts(dataset.profiles.slice(number, 1))[0]
        events = zip(dataset.item_N[rows].tolist(), dataset.rating_N[rows].tolist(), strict=True)
        lines = [template.behaviour_line(words, texts[item], dataset.levels[code]) for item, code in events]
        before[user] = template.head(words, profile, shown=bool(lines)) + "".join(lines)
        made = scorer.prompts(scorer.show(requests), np.arange(CHECKED))
        for place, (tokens_L, mask_L) in enumerate(zip(made.tokens_BL, made.mask_BL, strict=True)):
            tokens = tokens_L[mask_L].tolist()
            lengths.append(len(tokens))
            if run.context.backbone.tokenizer(before[user] + question[place])["input_ids"] != tokens:
                raise SystemExit(f"the prompt about item {ids[place]} for user {user} has other tokens as a whole text.")
    answers = scorer.builder.answers
    told = {
        "base": run.context.base_model,
        "adapters": {user: f"adapters/{name}" for user, name in names.items()},
        "before": before,
        "question": dict(zip(ids, question, strict=True)),
        "yes": answers.yes,
        "no": answers.no,
    }
    (folder / "plain.json").write_text(json.dumps(told))
    return {"compared token by token": len(lengths), "tokens, mean": round(sum(lengths) / len(lengths))}
