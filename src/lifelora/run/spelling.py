"""The tokenizer that writes a run's prompts, without the language model. Knows stages and backbones, no prompt.

A finished run has its own. Before there is one, a nano LM's is made from the data's texts, as the run will make it; a pretrained
one's is read from its files; and where these are not on this machine, a nano LM's stands in for it, and says so.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifelora.errors import ConfigError, MissingExtraError
from lifelora.llm.nano import Nano, train_tokenizer
from lifelora.prompts.wording.titles import TitleTemplate
from lifelora.prompts.wording.yes_no import Plain, Rella
from lifelora.run.context import Context


@dataclass(frozen=True)
class Spelling:
    """A tokenizer, the longest prompt of its model, what it is, and whether it is the one that the run has or will have."""

    tokenizer: Any
    context: int
    label: str
    exact: bool = True


def spelling_of(context: Context, template: Plain | Rella | TitleTemplate) -> Spelling:
    """Of the run's or recipe's language model; ConfigError where a finished run's cannot be read.

    ``template`` is the one of the prompts, whose words a tokenizer that stands in must know.
    """
    config, stage, download = context.recipe.backbone, context.stages.backbone, context.options.download
    if stage.lacking() is None:
        tokenizer, longest = config.spelling(stage.require(), download)
        return Spelling(tokenizer, longest, context.backbone_label)
    if isinstance(config, Nano):
        label = f"the nano language model's, {config.vocabulary:,} tokens at most, made from these texts as a run makes it"
        return Spelling(train_tokenizer(config, context.dataset), config.context, label)
    try:
        tokenizer, longest = config.spelling(stage.folder, download)
        return Spelling(tokenizer, longest, f"that of {config.place or config.kind}")
    except (ConfigError, MissingExtraError):
        if Path(config.place).exists():
            raise
        own = Nano(template=template)
        why = "a nano language model's, made from these texts, so counts are approximate: that of "
        why += f"{config.place or config.kind} is not on this machine (--download fetches what has a name)"
        return Spelling(train_tokenizer(own, context.dataset), own.context, why, exact=False)
