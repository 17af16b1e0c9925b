"""The finished parts of a run, loaded and ready: data, recommenders, personal LMs, their scores. Knows stages, makes none."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from lifelora import seeds
from lifelora.conventional.base import Recommender
from lifelora.conventional.inputs import Common
from lifelora.conventional.popularity import Popularity
from lifelora.conventional.sequence import MostPopular, NextItem
from lifelora.data.dataset import Dataset, Samples, Targets
from lifelora.errors import ConfigError
from lifelora.evaluation.jackknife import Scored
from lifelora.knowledge.experts import KnowledgeFields, Known
from lifelora.knowledge.questions import states
from lifelora.llm.backbone import Backbone
from lifelora.llm.personal import PersonalBatch, PersonalLM
from lifelora.llm.soft import SoftTokens
from lifelora.llm.two_tower import TwoTowerModel, load_encoder
from lifelora.lora.adapters import Adapters
from lifelora.lora.inject import personalise
from lifelora.lora.saved import start_from, tensors
from lifelora.progress import Progress
from lifelora.prompts.towers import TowerBatch, TowerBuilder
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.recipe.system import AnyRepresentation, Representation
from lifelora.retrieval.select import Selector
from lifelora.run.stages import KNOWLEDGE, Stages
from lifelora.tensors import read_tensors, to_device
from lifelora.tokens import check_fits
from lifelora.training.checkpoint import Learnt
from lifelora.types import LayerOrRandom, Part
from lifelora.vectors.base import Tools, Vectors

SCORING_BATCH = 2048
PROMPT_BATCH = 64
MODEL = "model.safetensors"
VECTORS = "vectors.safetensors"
ITEMS, USERS = "items.safetensors", "users.safetensors"
SCORES = "score.npy"
SUMMARY = "summary.json"
SUMMARISED = 32
"Validation rows over which the effective rank of updates is measured."
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
    "What u is made from, where that is not known before: its maker learns with the adapters, or its dropout is on."
    soft_user_NX: Float[torch.Tensor, "N X"] | None = None
    "What the user's soft token is made from."

    def mixed(self, other: "Asked") -> "Asked":
        """Every target twice: as here, and with the behaviours of ``other``; K is the larger one."""
        K = max(self.chosen_NK.shape[1], other.chosen_NK.shape[1])
        chosen_NK, mask_NK = (np.concatenate([np.pad(table, ((0, 0), (K - table.shape[1], 0))) for table in pair])
                              for pair in ((self.chosen_NK, other.chosen_NK), (self.mask_NK, other.mask_NK)))
        targets = self.targets.at(np.tile(np.arange(len(self.targets)), 2))
        soft_user_NX = None if self.soft_user_NX is None else self.soft_user_NX.repeat(2, 1)
        return Asked(targets, chosen_NK, mask_NK, self.user_ND.repeat(2, 1), self.gather, soft_user_NX)

    def batch(self, builder: YesNoBuilder, index_B: Int[np.ndarray, "B"]) -> PersonalBatch:
        """The prompts of some of them."""
        targets = self.targets.at(index_B)
        prompts = builder.build(targets, self.chosen_NK[index_B], self.mask_NK[index_B])
        samples = None if self.gather is None else self.gather(targets)
        rows_B = torch.from_numpy(index_B)
        soft_user_BX = None if self.soft_user_NX is None else self.soft_user_NX[rows_B]
        label_B = torch.from_numpy(targets.label_B.astype(np.float32))
        return PersonalBatch(prompts.tokens_BL, prompts.mask_BL, label_B, self.user_ND[rows_B], prompts.soft_BL, samples,
                             soft_user_BX)

    def towers(self, builder: TowerBuilder, index_B: Int[np.ndarray, "B"]) -> TowerBatch:
        """The texts of some of them, for an encoder."""
        return builder.batch(self.targets.at(index_B), self.chosen_NK[index_B], self.mask_NK[index_B])


class Parts:
    """Loads what the stages of a run hold."""

    def __init__(self, stages: Stages, options: Options) -> None:
        self.stages, self.recipe, self.options = stages, stages.recipe, options
        self.device = _device(options.device)
        self._selectors: dict[Selector.Config, Selector] = {}
        self._frozen: dict[str, Recommender] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The prepared data."""
        return Dataset(self.stages.data.require())

    @property
    def test_samples(self) -> Int[np.ndarray, "N"]:
        """The rows that everything is judged on."""
        return self.drawn("test", self.recipe.evaluation.test_samples, "test rows")

    def scored(self, name: str) -> Scored:
        """What ``evaluate`` kept of the conventional model or system called ``name``, on the test rows."""
        targets = self.dataset.targets(self.test_samples)
        score_N = np.load(self.stages.scores(name).require() / SCORES, allow_pickle=False)
        return Scored(targets.user_B, targets.item_B, targets.label_B, score_N)

    def scores(self, name: str, targets: Targets, said: str | None = None) -> Float[np.ndarray, "N"]:
        """P(like) of ``targets`` by the conventional model, encoder or system called ``name``."""
        if name in self.recipe.conventional:
            return self.conventional_scores(name, self.recommender(name), targets, said)
        if name in self.recipe.two_towers:
            return self.encoder_scores(*self.encoder(name), self.asked(name, targets), said)
        lm, builder = self.personal(name)
        return self.lm_scores(lm, builder, self.asked(name, targets), said)

    def recommender(self, name: str) -> Recommender:
        """A trained conventional model, ready to score, or, where the task is the next item, to represent people and items."""
        if self.recipe.task == "next-item":
            asked = self.next_item(name)
            assert isinstance(asked, NextItem)  # the recipe knows that popularity represents nobody
            return asked.model
        folder = self.stages.conventional(name).require()
        model = self.untrained(name)
        if isinstance(model, Popularity):
            model.load_state_dict(read_tensors(folder / MODEL)[0])
        else:
            Learnt(model).read(folder / MODEL)
        return model.to(self.device).eval()

    def next_item(self, name: str) -> NextItem | MostPopular:
        """A conventional model that was trained to say what comes next."""
        folder = self.stages.conventional(name).require()
        model = self.untrained_next_item(name)
        if isinstance(model, MostPopular):
            model.load_state_dict(read_tensors(folder / MODEL)[0])
        else:
            Learnt(model).read(folder / MODEL)
        return model.to(self.device).eval()

    def untrained_next_item(self, name: str) -> NextItem | MostPopular:
        model = self.untrained(name)
        return MostPopular(self.dataset.n_items) if isinstance(model, Popularity) else NextItem(model)

    def encoder(self, name: str) -> tuple[TwoTowerModel, TowerBuilder]:
        """A trained encoder and what writes its texts."""
        folder = self.stages.encoder(name).require()
        model, builder, _ = self.untrained_encoder(name)
        Learnt(model).read(folder / MODEL)
        return model.to(self.device).eval(), builder

    def personal(self, name: str) -> tuple[PersonalLM, YesNoBuilder]:
        """A trained system and what writes its prompts."""
        folder = self.stages.system(name).require()
        lm, builder = self.untuned(name)
        Learnt(lm).read(folder / MODEL)
        lm.adapters.load_state(tensors(folder / ADAPTER))  # A and B may have been frozen
        return lm.to(self.device).eval(), builder

    def samples(self, name: str, model: Recommender | NextItem | MostPopular, targets: Targets) -> Samples:
        """What the conventional model ``name`` reads of ``targets``."""
        behaviours = self.recipe.conventional[name].behaviours
        chosen = None if behaviours is None else self.selector(behaviours).select(self.dataset, targets)
        return self.dataset.gather(targets, model.history_length, chosen)

    def selector(self, config: Selector.Config) -> Selector:
        """What chooses behaviours to show or to read."""
        if config in self._selectors:
            return self._selectors[config]
        self._selectors[config] = config.build(self.vectors.vectors_NE if config.needs_vectors else None)
        return self._selectors[config]

    @property
    def vectors(self) -> Vectors:
        """The item vectors."""
        return Vectors.load(self.stages.vectors.require() / VECTORS)

    def tools(self, needs_backbone: bool) -> Tools:
        """What makes texts and vectors may use; what it has finished stays in the run's folder, whatever is made of it."""
        backbone = self.backbone() if needs_backbone else None
        given = {} if backbone is None else {
            "model": backbone.model, "tokenizer": backbone.tokenizer, "fingerprint": self.stages.backbone.key,
            "context": backbone.context,
        }
        return Tools(**given, device=self.device, download=self.options.download, folder=self.stages.folder / KNOWLEDGE,
                     progress=self.options.progress)

    def known(self, name: str) -> Known:
        """What is known of items and people."""
        folder, every = self.stages.knowledge(name).require(), self.recipe.knowledge[name].every
        item_MK, state_NK = (Vectors.load(folder / file).vectors_NE for file in (ITEMS, USERS))
        first_U, states_U = states(self.dataset, every)
        return Known(item_MK, state_NK, torch.from_numpy(first_U), torch.from_numpy(states_U), every)

    def drawn(self, part: Part, count: int | None, what: str) -> Int[np.ndarray, "N"]:
        """``count`` rows of a part, drawn once by seed, in the part's order; all of them when ``count`` is None."""
        rows = np.asarray(self.dataset.samples[part])
        if count is None or count >= len(rows):
            return rows
        return rows[np.sort(seeds.generator(self.recipe.seed, what).permutation(len(rows))[:count])]

    def lists(self, part: Part, rows_N: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N C"]:
        """The candidates of some rows of a part, which keep the part's order."""
        return np.asarray(self.dataset.lists[part][np.isin(self.dataset.samples[part], rows_N)], np.int64)

    def untrained(self, name: str) -> Recommender:
        step = self.recipe.conventional[name]
        with seeds.torch_seeded(self.recipe.seed, "conventional", name):
            extra = None
            if step.knowledge is not None:
                assert isinstance(step.model, Common)
                extra = KnowledgeFields(
                    step.knowledge_experts, self.known(step.knowledge), step.model.embedding, step.model.init_std)
            return step.model.build(self.dataset.schema(), extra)

    def untrained_encoder(self, name: str) -> tuple[TwoTowerModel, TowerBuilder, str]:
        """An encoder as its training finds it, what writes its texts, and one line that says what it is."""
        config = self.recipe.two_towers[name]
        loaded = load_encoder(config, f"two_towers.{name}.path", self.options.download)
        most = min(config.max_tokens, loaded.context, loaded.tokenizer.model_max_length)
        with seeds.torch_seeded(self.recipe.seed, "encoder", name):
            model = TwoTowerModel(loaded.model, config)
        builder = TowerBuilder(self.dataset, config.template, loaded.tokenizer, most)
        check_fits(builder.highest, loaded.model, loaded.tokenizer)
        return model, builder, loaded.label

    def backbone(self) -> Backbone:
        return self.recipe.backbone.load(self.stages.backbone.require(), self.device, self.options.download)

    @property
    def base_model(self) -> str:
        """What an adapter's files say that it is for: the backbone's folder or hub name."""
        return self.recipe.backbone.place or str(self.stages.backbone.folder.resolve())

    def untuned(self, name: str) -> tuple[PersonalLM, YesNoBuilder]:
        """A system as its training finds it, but for the LoRA that it starts from."""
        system, backbone = self.recipe.systems[name], self.backbone()
        most = min(system.max_tokens, backbone.context)
        places = () if system.soft is None else system.soft.at
        builder = YesNoBuilder.make(self.dataset, system.template, backbone.tokenizer, most, places)
        check_fits(builder.highest, backbone.model, backbone.tokenizer)
        adapters = self.adapters(name, backbone)
        encoder = self._encoder_beside_adapters(name)
        soft = None
        if system.soft is not None:
            words = int(cast(Any, backbone.model).get_input_embeddings().embedding_dim)
            items_ME = self.recommender(system.soft.model).cpu().item_embeddings() if {*places} != {"user"} else None
            width = self._width(system.soft.model, system.soft.layer) if "user" in places else None
            with seeds.torch_seeded(self.recipe.seed, "soft", name):
                soft = SoftTokens(words, items_ME, width, system.soft.projector)
        layer = system.representation.layer if isinstance(system.representation, Representation) else "final"
        return PersonalLM(backbone.model, adapters, builder.answers, encoder, soft, layer, system.loss,
                          backbone.head), builder

    def adapters(self, name: str, backbone: Backbone) -> Adapters:
        """A system's adapters, put into the backbone as training finds them, but for the LoRA that they start from."""
        system = self.recipe.systems[name]
        width = None if system.representation is None else self._user_width(system.representation)
        generator = seeds.torch_generator(self.recipe.seed, "adapters", name)
        return personalise(backbone.model, system, user_width=width, generator=generator)

    def start(self, name: str, adapters: Adapters) -> None:
        """Put the LoRA that a system starts from into its adapters."""
        start = self.recipe.systems[name].init_from
        if start is not None:
            ours = start in self.recipe.systems
            start_from(adapters, self.stages.system(start).require() / ADAPTER if ours else Path(start).expanduser())

    def _encoder_beside_adapters(self, name: str) -> Recommender | None:
        """The conventional model that runs inside a system; what has no part in u is frozen, for it will get no gradient."""
        config = self.recipe.systems[name].representation
        if not isinstance(config, Representation) or config.train == "frozen":
            return None
        model = self.recommender(config.model).cpu()
        if config.train == "frozen-with-dropout":
            return model.requires_grad_(False)
        some = self.dataset.targets(np.asarray(self.dataset.samples["train"][:4]))
        model.representation(self.samples(config.model, model, some), config.layer).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        return model

    def asked(self, name: str, targets: Targets, behaviours: Selector.Config | None = None) -> Asked:
        """``targets`` as an encoder or a system sees them; with other ``behaviours`` than its own, if they are given."""
        config = (self.recipe.two_towers.get(name) or self.recipe.systems[name]).behaviours if behaviours is None else behaviours
        chosen_NK, mask_NK = self.selector(config).select(self.dataset, targets)
        user_ND, gather, soft_user_NX = torch.zeros(len(targets), 0), None, None
        system = self.recipe.systems.get(name)
        u = None if system is None else system.representation
        if isinstance(u, Representation) and u.train != "frozen":
            gather = partial(self.samples, u.model, self.recommender(u.model))
        elif u is not None:
            user_ND = self.user_vectors(u, targets)
        if system is not None and system.soft is not None and "user" in system.soft.at:
            soft_user_NX = self.represented(system.soft.model, system.soft.layer, targets)
        return Asked(targets, chosen_NK, mask_NK, user_ND, gather, soft_user_NX)

    def user_vectors(self, config: AnyRepresentation, targets: Targets) -> Float[torch.Tensor, "N D"]:
        """u of each target; a random one is the same for all targets of a user."""
        if isinstance(config, Representation):
            return self.represented(config.model, config.layer, targets)
        drawn = seeds.torch_generator(self.recipe.seed, "random representation")
        return torch.randn(self.dataset.n_users, config.width, generator=drawn)[torch.from_numpy(targets.user_B).long()]

    def represented(self, name: str, layer: LayerOrRandom, targets: Targets) -> Float[torch.Tensor, "N D"]:
        """u of each target by a layer of the conventional model ``name``; a random one is the same for all targets of a user."""
        if name not in self._frozen:  # kept, for one person is asked about after another
            self._frozen[name] = self.recommender(name)
        model = self._frozen[name]
        if layer == "random":
            drawn = seeds.torch_generator(self.recipe.seed, "random representation", name)
            return torch.randn(self.dataset.n_users, model.width, generator=drawn)[torch.from_numpy(targets.user_B).long()]
        with torch.inference_mode():
            parts = [model.representation(to_device(self.samples(name, model, some), self.device), layer).cpu()
                     for some in _slices(targets, SCORING_BATCH)]
        # A plain tensor: those of inference mode cannot be saved for backward.
        return torch.cat(parts).clone()

    def _user_width(self, config: AnyRepresentation) -> int:
        return self._width(config.model, config.layer) if isinstance(config, Representation) else config.width

    def _width(self, name: str, layer: LayerOrRandom) -> int:
        return self.represented(name, layer, self.dataset.targets(np.asarray(self.dataset.samples["train"][:1]))).shape[1]

    def sees_target(self, name: str) -> bool:
        """Whether u of a system depends on the target: by its layer, or by the behaviours that its model reads."""
        config = self.recipe.systems[name].representation
        if not isinstance(config, Representation):
            return False
        read = self.recipe.conventional[config.model].behaviours
        chosen = read is not None and read.needs_target
        return chosen or self.untrained(config.model).sees_target(config.layer)

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

    def lm_scores(self, lm: PersonalLM, builder: YesNoBuilder, asked: Asked, said: str | None = None) -> Float[np.ndarray, "N"]:
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

    def encoder_scores(
        self, model: TwoTowerModel, builder: TowerBuilder, asked: Asked, said: str | None = None
    ) -> Float[np.ndarray, "N"]:
        targets = asked.targets
        # Texts of like length together, and those about one person: what is the same in a batch is read once.
        order = np.lexsort((targets.position_B, targets.user_B, asked.mask_NK.sum(axis=1)))
        item_M, place_N = np.unique(targets.item_B, return_inverse=True)
        scores_N = np.empty(len(order))
        model.eval()
        with torch.inference_mode(), Progress(said or "", len(order), enabled=bool(said) and self.options.progress) as ticker:
            item_ME = torch.cat([model.encode(to_device(builder.items(item_M[start : start + PROMPT_BATCH]), self.device))
                                 for start in range(0, len(item_M), PROMPT_BATCH)])
            for start in range(0, len(order), PROMPT_BATCH):
                index_B = order[start : start + PROMPT_BATCH]
                users, user_B = builder.users(targets.at(index_B), asked.chosen_NK[index_B], asked.mask_NK[index_B])
                user_BE = model.encode(to_device(users, self.device))[user_B.to(self.device)]
                item_BE = item_ME[torch.from_numpy(place_N[index_B]).to(self.device)]
                scores_N[index_B] = torch.sigmoid(model.joined(user_BE, item_BE)).double().cpu().numpy()
                ticker.advance(len(index_B))
        return scores_N


def keep_untrained(lm: torch.nn.Module, folder: Path, device: torch.device) -> None:
    """What training would leave, of a system that is asked as it is."""
    learnt = Learnt(lm.to(device).eval())
    learnt.write(folder / MODEL, learnt.copy())


def _slices(targets: Targets, size: int) -> Iterator[Targets]:
    for start in range(0, len(targets), size):
        yield targets.at(slice(start, start + size))


def _device(word: str) -> torch.device:
    if word == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(word)
        torch.zeros(1, device=device).item()  # it holds numbers, which 'meta' does not
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {word}: {str(error).splitlines()[0]} Use auto, cpu, cuda, cuda:N or mps.") from error
    return device
