"""The finished parts of a run, loaded and ready: data, recommenders, personal LMs, their scores. Knows stages, makes none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file

from lifelora import seeds
from lifelora.artefacts import read_json
from lifelora.checkpoint import Learnt
from lifelora.conventional import build
from lifelora.conventional.base import Recommender
from lifelora.conventional.popularity import Popularity
from lifelora.data.dataset import Dataset, Samples, Targets
from lifelora.errors import ConfigError
from lifelora.evaluation.significance import Scored
from lifelora.llm.backbone import Backbone, Pretrained, load
from lifelora.llm.personal import PersonalBatch, PersonalLM
from lifelora.llm.soft import SoftTokens
from lifelora.lora.inject import personalise
from lifelora.lora.saved import start_from, tensors
from lifelora.progress import Progress
from lifelora.prompts.batch import PromptBuilder
from lifelora.retrieval.embed import ItemVectors
from lifelora.retrieval.select import AnyConfig, Selector, selector
from lifelora.run.stages import Stages
from lifelora.training import to_device
from lifelora.types import Part

SCORING_BATCH = 2048
PROMPT_BATCH = 64
MODEL = "model.safetensors"
VECTORS = "vectors.safetensors"
SCORES = "score.npy"
ACCOUNT = "account.json"
ADAPTER = "adapter"
"Folder of a system's adapters in the form that people, ``lora.load`` and (with coupling 'identity') PEFT read."


@dataclass(frozen=True)
class Options:
    """What does not change the result."""

    device: str = "auto"
    download: bool = False
    progress: bool = True
    checkpointing: bool = False
    "Less memory and more time: the LM's layers run again during backward."


@dataclass(frozen=True)
class Asked:
    """Targets with the behaviours that were chosen for them and the representations of their people."""

    targets: Targets
    chosen_NK: Int[np.ndarray, "N K"]
    mask_NK: Bool[np.ndarray, "N K"]
    user_ND: Float[torch.Tensor, "N D"]
    gather: Callable[[Targets], Samples] | None = None
    "What u is made from, where that is not known before (``representation_training = 'joint'``)."

    def mixed(self, other: "Asked") -> "Asked":
        """Every target twice: as here, and with the behaviours of ``other``; K is the larger one."""
        K = max(self.chosen_NK.shape[1], other.chosen_NK.shape[1])
        chosen_NK, mask_NK = (np.concatenate([np.pad(table, ((0, 0), (K - table.shape[1], 0))) for table in pair])
                              for pair in ((self.chosen_NK, other.chosen_NK), (self.mask_NK, other.mask_NK)))
        targets = self.targets.at(np.tile(np.arange(len(self.targets)), 2))
        return Asked(targets, chosen_NK, mask_NK, self.user_ND.repeat(2, 1), self.gather)

    def batch(self, builder: PromptBuilder, index_B: Int[np.ndarray, "B"]) -> PersonalBatch:
        """The prompts of some of them."""
        targets = self.targets.at(index_B)
        prompts = builder.build(targets, self.chosen_NK[index_B], self.mask_NK[index_B])
        samples = None if self.gather is None else self.gather(targets)
        user_BD = self.user_ND[torch.from_numpy(index_B)]
        return PersonalBatch(prompts.tokens_BL, prompts.mask_BL, prompts.label_B, user_BD, prompts.soft_BL, samples)


class Parts:
    """Loads what the stages of a run hold."""

    def __init__(self, stages: Stages, options: Options) -> None:
        self.stages, self.recipe, self.options = stages, stages.recipe, options
        self.device = _device(options.device)
        self._selectors: dict[AnyConfig, Selector] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The prepared data."""
        return Dataset(self.stages.data.require())

    @property
    def test_rows(self) -> Int[np.ndarray, "N"]:
        """The rows that everything is judged on."""
        return self.drawn("test", self.recipe.evaluation.test_rows, "test rows")

    def scored(self, name: str) -> Scored:
        """What ``evaluate`` kept of the conventional model or system called ``name``, on the test rows."""
        targets = self.dataset.targets(self.test_rows)
        score_N = np.load(self.stages.scores(name).require() / SCORES, allow_pickle=False)
        return Scored(targets.user_B, targets.item_B, targets.label_B, score_N)

    def scores(self, name: str, targets: Targets, said: str | None = None) -> Float[np.ndarray, "N"]:
        """P(like) of ``targets`` by the conventional model or system called ``name``."""
        if name in self.recipe.conventional:
            return self.conventional_scores(name, self.recommender(name), targets, said)
        lm, builder = self.personal(name)
        return self.lm_scores(lm, builder, self.asked(name, targets), said)

    def recommender(self, name: str) -> Recommender:
        """A trained conventional model, ready to score."""
        folder = self.stages.conventional(name).require()
        model = self.untrained(name)
        if isinstance(model, Popularity):
            model.load_state_dict(load_file(folder / MODEL))
        else:
            Learnt(model).read(folder / MODEL)
        return model.to(self.device).eval()

    def personal(self, name: str) -> tuple[PersonalLM, PromptBuilder]:
        """A trained system and what writes its prompts."""
        folder = self.stages.system(name).require()
        lm, builder = self.untuned(name)
        Learnt(lm).read(folder / MODEL)
        lm.adapters.load_state(tensors(folder / ADAPTER))  # A and B may have been frozen
        return lm.to(self.device).eval(), builder

    def samples(self, name: str, model: Recommender, targets: Targets) -> Samples:
        """What the conventional model ``name`` reads of ``targets``."""
        behaviours = self.recipe.conventional[name].behaviours
        chosen = None if behaviours is None else self.selector(behaviours).select(self.dataset, targets)
        return self.dataset.gather(targets, model.history_length, chosen)

    def selector(self, config: AnyConfig) -> Selector:
        """What chooses behaviours to show or to read."""
        if config in self._selectors:
            return self._selectors[config]
        vectors = ItemVectors.load(self.stages.vectors.require() / VECTORS) if config.needs_vectors else None
        self._selectors[config] = selector(config, vectors.vectors_ME if vectors else None)
        return self._selectors[config]

    def drawn(self, part: Part, count: int | None, what: str) -> Int[np.ndarray, "N"]:
        """``count`` rows of a part, drawn once by seed, in the part's order; all of them when ``count`` is None."""
        rows = np.asarray(self.dataset.samples[part])
        if count is None or count >= len(rows):
            return rows
        return rows[np.sort(seeds.generator(self.recipe.seed, what).permutation(len(rows))[:count])]

    def untrained(self, name: str) -> Recommender:
        with seeds.torch_seeded(self.recipe.seed, "conventional", name):
            return build(self.recipe.conventional[name].model, self.dataset.schema())

    def backbone(self) -> Backbone:
        folder = self.stages.backbone.require()
        if isinstance(self.recipe.backbone, Pretrained):
            return load(self.recipe.backbone, self.device, self.options.download)
        about = read_json(folder / "about.json")
        return load(Pretrained(path=str(folder)), self.device, label=about["label"])

    @property
    def base_model(self) -> str:
        """What an adapter's files say that it is for: the backbone's folder or hub name."""
        config = self.recipe.backbone
        return config.path if isinstance(config, Pretrained) else str(self.stages.backbone.folder.resolve())

    def untuned(self, name: str) -> tuple[PersonalLM, PromptBuilder]:
        """A system as its training finds it, but for the LoRA that it starts from."""
        system, backbone = self.recipe.systems[name], self.backbone()
        most = min(system.max_tokens, backbone.context)
        builder = PromptBuilder.make(self.dataset, system.template, backbone.tokenizer, most, system.soft is not None)
        width = None if system.representation is None else self.untrained(system.representation).width
        generator = seeds.torch_generator(self.recipe.seed, "adapters", name)
        adapters = personalise(backbone.model, system, user_width=width, generator=generator)
        encoder = self._learning_encoder(name) if system.representation_training == "joint" else None
        soft = None
        if system.soft is not None:
            width = int(cast(Any, backbone.model).get_input_embeddings().embedding_dim)
            with seeds.torch_seeded(self.recipe.seed, "soft", name):
                soft = SoftTokens(self.recommender(system.soft).cpu().item_embeddings(), width)
        return PersonalLM(backbone.model, adapters, builder.answers, encoder, soft), builder

    def start(self, name: str, lm: PersonalLM) -> None:
        """Put the LoRA that a system starts from into its adapters."""
        start = self.recipe.systems[name].start
        if start is not None:
            ours = start in self.recipe.systems
            start_from(lm.adapters, self.stages.system(start).require() / ADAPTER if ours else Path(start).expanduser())

    def _learning_encoder(self, name: str) -> Recommender:
        """The trained conventional model of a system; what has no part in u is frozen, for it will get no gradient."""
        encoder = self.recipe.systems[name].representation or ""
        model = self.recommender(encoder).cpu()
        some = self.dataset.targets(np.asarray(self.dataset.samples["train"][:4]))
        model.represent(self.samples(encoder, model, some)).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        return model

    def asked(self, name: str, targets: Targets, behaviours: AnyConfig | None = None) -> Asked:
        """``targets`` as a system sees them; with other ``behaviours`` than its own, if they are given."""
        config = self.recipe.systems[name].behaviours if behaviours is None else behaviours
        chosen_NK, mask_NK = self.selector(config).select(self.dataset, targets)
        representation = self.recipe.systems[name].representation
        if representation is None:
            return Asked(targets, chosen_NK, mask_NK, torch.zeros(len(targets), 0))
        model = self.recommender(representation)
        if self.recipe.systems[name].representation_training == "joint":
            gather = partial(self.samples, representation, model)
            return Asked(targets, chosen_NK, mask_NK, torch.zeros(len(targets), 0), gather)
        with torch.inference_mode():
            parts = [model.represent(to_device(self.samples(representation, model, some), self.device)).cpu()
                     for some in _slices(targets, SCORING_BATCH)]
        # A plain tensor: those of inference mode cannot be saved for backward.
        return Asked(targets, chosen_NK, mask_NK, torch.cat(parts).clone())

    def conventional_scores(
        self, name: str, model: Recommender, targets: Targets, said: str | None = None
    ) -> Float[np.ndarray, "N"]:
        parts = []
        model.to(self.device).eval()
        with torch.inference_mode(), Progress(said or "", len(targets), enabled=bool(said) and self.options.progress) as ticker:
            for some in _slices(targets, SCORING_BATCH):
                batch = to_device(self.samples(name, model, some), self.device)
                parts.append(model.score(batch).double().cpu().numpy())
                ticker.advance(len(some))
        return np.concatenate(parts)

    def lm_scores(self, lm: PersonalLM, builder: PromptBuilder, asked: Asked, said: str | None = None) -> Float[np.ndarray, "N"]:
        # Prompts of like length together, so that little is padded; the scores come back in the order asked.
        order = np.argsort(asked.mask_NK.sum(axis=1), kind="stable")
        scores_N = np.empty(len(order))
        lm.eval()
        with torch.inference_mode(), Progress(said or "", len(order), enabled=bool(said) and self.options.progress) as ticker:
            for start in range(0, len(order), PROMPT_BATCH):
                index_B = order[start : start + PROMPT_BATCH]
                scores_N[index_B] = lm.score(to_device(asked.batch(builder, index_B), self.device)).double().cpu().numpy()
                ticker.advance(len(index_B))
        return scores_N


def _slices(targets: Targets, size: int) -> Iterator[Targets]:
    for start in range(0, len(targets), size):
        yield targets.at(slice(start, start + size))


def _device(word: str) -> torch.device:
    if word == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(word)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {word}: {str(error).splitlines()[0]} Use auto, cpu, cuda, cuda:N or mps.") from error
    return device
