"""Requests to vLLM's /generative_scoring: a user's candidates as tokens, for the adapter that was exported. Knows no HTTP.

    score = exp(s_yes) / (exp(s_yes) + exp(s_no)),   s = the model's logits after query + item

which is p(yes) of a system that is asked yes or no. vLLM cuts a prompt that is too long at its end, where the question stands,
and says nothing; so lengths are looked at here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from lifelora.errors import ConfigError, on_one_line
from lifelora.lora.collection import Collection
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.prompts.yes_no import YesNoBuilder, find_answers
from lifelora.recipe.system import System
from lifelora.retrieval.select import Selector
from lifelora.retrieval.shuffled import SHUFFLED
from lifelora.run.export import whole
from lifelora.run.run import Run
from lifelora.run.scorers.seen import growing
from lifelora.run.spelling import spelling_of

LISTED = 3
"""Items that an error lists."""


@final
@dataclass(frozen=True)
class GenerativeScoring:
    """What writes the requests of one system; the language model's tokenizer is read, its weights are not."""

    run: Run
    collection: Collection
    system: System
    selector: Selector
    builder: YesNoBuilder

    @classmethod
    def of(cls, run: Run, folder: Path) -> "GenerativeScoring":
        """For the adapters that ``lifelora export --layout vllm`` wrote to a folder.

        Raises ConfigError where these are not of this run, and for a system whose scores the endpoint does not give.
        """
        collection = Collection.read(folder)
        name, system = collection.system, run.recipe.systems.get(collection.system)
        if system is None or collection.base_model != run.context.base_model:
            raise ConfigError(
                f"'{folder}' holds adapters of system '{name}' for {collection.base_model}, which is not of this run; give the "
                "run that they were exported from."
            )
        if run.recipe.task != "ctr":
            raise ConfigError(
                f"system '{name}' scores titles of several tokens (task = '{run.recipe.task}'), and /generative_scoring gives "
                "the probability of one token; serve the run."
            )
        if system.loss == "yes" or system.control == SHUFFLED:
            key = f"systems.{name}.loss = 'yes'" if system.loss == "yes" else f"systems.{name}.control = '{SHUFFLED}'"
            raise ConfigError(
                f"{key}: the endpoint weighs yes against no after the prompt as it is, and the system does not; serve the run, "
                "or train the system without that key."
            )
        whole(name, system)
        dataset, spelling = run.context.in_prompts(system.control), spelling_of(run.context, system.template)
        if not spelling.exact:
            raise ConfigError(f"these would not be the language model's own tokens: {spelling.label}.")
        builder = YesNoBuilder(
            dataset,
            YesNoLines.build(dataset, system.template, spelling.tokenizer, ()),
            find_answers(spelling.tokenizer, system.template),
            min(system.max_tokens, spelling.context),
        )
        return cls(run, collection, system, growing(system) or run.context.selector(system.behaviours), builder)

    def body(self, user: str, items: Sequence[str], max_model_len: int | None = None) -> dict[str, Any]:
        """The JSON body of a request: ``query`` is what the prompts of all items begin with, ``items`` how each goes on.

        ``max_model_len`` is vLLM's; without it a prompt may be as long as the system's are. Raises ConfigError for a user who was
        not exported and for prompts that are too long, DataError for unknown ids.
        """
        dataset, name = self.run.context.dataset, self.collection.system
        index = int(dataset.users.inside([user])[0])
        entry = self.collection.current.get(user if self.system.coupling.needs_user else name)
        if entry is None:
            raise ConfigError(f"'{self.collection.folder}' has no adapter of user '{on_one_line(user)}'; export it, too.")
        if not items or len(set(items)) < len(items):
            raise ConfigError(f"{'an item is named twice' if items else 'no item is named'}; name each candidate once.")
        targets = dataset.candidates(index, dataset.items.inside(list(items)))
        prompts = self.builder.build(targets, *self.selector.select(dataset, targets))
        ids = [row[mask].tolist() for row, mask in zip(prompts.tokens_BL, prompts.mask_BL, strict=True)]
        if max_model_len is not None:
            self._fit(items, [len(tokens) for tokens in ids], max_model_len)
        shared = next((n for n, column in enumerate(zip(*ids, strict=False)) if len(set(column)) > 1), min(map(len, ids)))
        shared = min(shared, *(len(tokens) - 1 for tokens in ids))  # something is left of every item
        return {
            "model": entry.name,
            "query": ids[0][:shared],
            "items": [tokens[shared:] for tokens in ids],
            "label_token_ids": [self.builder.answers.yes, self.builder.answers.no],
            "apply_softmax": True,
        }

    def _fit(self, items: Sequence[str], lengths: Sequence[int], max_model_len: int) -> None:
        """Raise ConfigError for prompts that vLLM would cut."""
        most = max_model_len - 1  # earlier versions keep a place for a token that they write
        long = [f"{on_one_line(item)} has {n:,}" for item, n in zip(items, lengths, strict=True) if n > most]
        if long:
            more = f" and {len(long) - LISTED:,} more" if len(long) > LISTED else ""
            raise ConfigError(
                f"{len(long):,} of {len(lengths):,} prompts have more tokens than the {most:,} for which --max-model-len "
                f"{max_model_len} has room: {', '.join(long[:LISTED])}{more}. vLLM would cut their ends, which ask the question. "
                f"Start it with --max-model-len {max(lengths) + 1} or more, or lower systems.{self.collection.system}.max_tokens "
                "and train again."
            )
