"""Two towers in a run: an encoder reads user and item apart, a head joins them (CTR-BERT). Knows no conventional model."""

import json
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora import seeds
from lifelora.artefacts import read_json, write_atomically
from lifelora.data.dataset import Targets
from lifelora.llm.backbone import ABOUT
from lifelora.llm.two_tower import TwoTowerModel, load_encoder
from lifelora.prompts.towers import TowerBatch, TowerBuilder
from lifelora.recipe.sections import TwoTower
from lifelora.run.context import Context
from lifelora.run.scorers.base import MODEL, Requests, Scorer, Validate
from lifelora.scoring import in_batches, token_budget
from lifelora.stage import Stage
from lifelora.tensors import to_device
from lifelora.tokens import check_fits
from lifelora.training import fit
from lifelora.training.checkpoint import Learnt

PAIRS = 4096
"""Pairs of vectors that are joined at a time."""
Chosen = tuple[Targets, Int[np.ndarray, "N K"], Bool[np.ndarray, "N K"]]


class TwoTowerScorer(Scorer):
    """Its scores are P(like)."""

    family = "two towers"

    def __init__(self, context: Context, name: str, stage: Stage, config: TwoTower) -> None:
        super().__init__(context, name, stage)
        self.config = config
        self._label = ""
        self._read: tuple[pa.Table, Int[np.ndarray, "P"], Float[Tensor, "P E"]] | None = None

    @property
    def validation_count(self) -> int | None:
        return self.config.validation_samples

    @property
    def sees_target(self) -> bool:
        return self.config.behaviours.needs_target

    def check(self) -> None:
        _ = self.untrained

    @cached_property
    def untrained(self) -> tuple[TwoTowerModel, TowerBuilder]:
        """As training finds it, and what writes its texts. It becomes the trained one, so that the encoder is loaded once."""
        config, context = self.config, self.context
        loaded = load_encoder(config, f"two_towers.{self.name}.path", context.options.download)
        self._label = loaded.label
        most = min(config.max_tokens, loaded.context, loaded.tokenizer.model_max_length)
        with seeds.torch_seeded(context.recipe.seed, "encoder", self.name):
            model = TwoTowerModel(loaded.model, config)
        builder = TowerBuilder(context.dataset, config.template, loaded.tokenizer, most)
        check_fits(builder.highest, loaded.model, loaded.tokenizer)
        return model, builder

    @property
    def builder(self) -> TowerBuilder:
        """What writes its texts."""
        return self.context.reading(("texts", self.name), self.context.dataset, lambda: self.untrained[1])

    @cached_property
    def model(self) -> TwoTowerModel:
        """As it was trained."""
        folder = self.stage.require()
        Learnt(self.untrained[0]).read(folder / MODEL)
        return self.untrained[0].to(self.context.device).eval()

    def train(self, folder: Path, validate: Validate) -> None:
        context, config = self.context, self.config
        model, _ = self.untrained
        asked = self.show(context.dataset.targets(context.training_samples(config.train_samples)))
        if context.options.checkpointing:
            model.enable_checkpointing()
        self.model = model.to(context.device)
        fit(
            model,
            np.arange(len(asked[0])),
            partial(self.batch, asked),
            validate,
            config.training,
            folder,
            context.recipe.seed,
            name=self.name,
            device=context.device,
            progress=context.shows_progress,
        )
        write_atomically(folder / ABOUT, json.dumps({"label": self._label}))

    def score(self, requests: Requests, said: str | None = None) -> Float[np.ndarray, "N C"]:
        model, builder, device = self.model, self.builder, self.context.device
        targets, chosen_NK, mask_NK = self.show(requests.targets)
        # Texts of like length together, and those about one user: what is the same in a batch is read once.
        order = np.lexsort((targets.position_B, targets.user_B, mask_NK.sum(axis=1)))
        item_M, place_N = np.unique(targets.item_B, return_inverse=True)

        def scored(index_B: Int[np.ndarray, "B"]) -> Float[np.ndarray, "B"]:
            users, user_B = builder.users(targets.at(index_B), chosen_NK[index_B], mask_NK[index_B])
            user_BE = model.encode(to_device(users, device))[user_B.to(device)]
            item_BE = item_ME[torch.from_numpy(place_N[index_B])].to(device)
            made: np.ndarray = torch.sigmoid(model.joined(user_BE, item_BE)).double().cpu().numpy()
            return made

        model.eval()
        with torch.inference_mode():
            item_ME = self._item_vectors(item_M)
            scores_N: np.ndarray = in_batches(
                builder.lengths(targets, chosen_NK, mask_NK),
                scored,
                tokens=self._tokens_at_once,
                order=order,
                said=said,
                progress=self.context.shows_progress,
            )
        return scores_N[:, None]

    def over(self, targets: Targets, items_P: Int[np.ndarray, "P"]) -> Float[np.ndarray, "B P"] | None:
        """Each text is read once: the items' for all calls in a row that ask for the same, and one of each user."""
        if self.config.behaviours.needs_target:
            return None
        model, device = self.model, self.context.device
        _, chosen_BK, mask_BK = self.show(targets)
        model.eval()
        with torch.inference_mode():
            users, user_B = self.builder.users(targets, chosen_BK, mask_BK)
            user_BE = model.encode(to_device(users, device))[user_B.to(device)]
            catalogue = self.context.dataset.catalogue  # which no event changes
            if self._read is None or self._read[0] is not catalogue or not np.array_equal(self._read[1], items_P):
                self._read = catalogue, items_P, self._item_vectors(items_P).to(device)
            item_PE = self._read[2]
            made = [
                torch.cat([model.joined(user_E.expand(len(some), -1), some) for some in torch.split(item_PE, PAIRS)])
                for user_E in user_BE
            ]
            scores_BP: np.ndarray = torch.sigmoid(torch.stack(made)).double().cpu().numpy()
        return scores_BP

    def _item_vectors(self, item_M: Int[np.ndarray, "M"]) -> Float[Tensor, "M E"]:
        builder, model, device = self.builder, self.model, self.context.device

        def encoded(index_B: Int[np.ndarray, "B"]) -> Float[np.ndarray, "B E"]:
            made: np.ndarray = model.encode(to_device(builder.items(item_M[index_B]), device)).cpu().numpy()
            return made

        return torch.from_numpy(in_batches(builder.item_lengths(item_M), encoded, tokens=self._tokens_at_once))

    @property
    def _tokens_at_once(self) -> int:
        return self.context.options.tokens_at_once or token_budget(self.model.encoder, self.context.device)

    def chosen(self, requests: Requests) -> tuple[str, Sequence[Int[np.ndarray, "_"]]]:
        _, chosen_NK, mask_NK = self.show(requests.targets)
        return self.config.behaviours.in_words(), [row_K[mask_K] for row_K, mask_K in zip(chosen_NK, mask_NK, strict=True)]

    def shown(self, requests: Requests) -> Sequence[Int[np.ndarray, "_"]]:
        targets, chosen_NK, mask_NK = self.show(requests.targets)
        kept_NK = self.builder.kept(targets, chosen_NK, mask_NK)
        return [row_K[kept_K] for row_K, kept_K in zip(chosen_NK, kept_NK, strict=True)]

    def reads(self) -> str:
        config, train = self.config, len(self.context.dataset.samples["train"])
        read = f"words; {config.behaviours.in_words()}; {min(config.train_samples or train, train):,} training samples"
        return f"{read}; only its head has learnt" if config.train == "head" else read

    def facts(self) -> list[tuple[str, str]]:
        return [(f"encoder of {self.name}", str(read_json(self.stage.require() / ABOUT)["label"]))]

    def show(self, targets: Targets) -> Chosen:
        """Targets with the behaviours that were chosen for them."""
        return targets, *self.context.selector(self.config.behaviours).select(self.context.dataset, targets)

    def batch(self, shown: Chosen, index_B: Int[np.ndarray, "B"]) -> TowerBatch:
        """The texts of some of them."""
        targets, chosen_NK, mask_NK = shown
        return self.builder.batch(targets.at(index_B), chosen_NK[index_B], mask_NK[index_B])
