"""Conventional models in a run: they read ids, score, and give representations and item vectors. Knows no language model.

``NextItemModel`` is asked which item comes next, out of the whole catalogue; ``like.LikeModel`` whether an item will be liked.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifelora import seeds
from lifelora.conventional.base import Counted, Ranker, Recommender
from lifelora.conventional.inputs import Common
from lifelora.conventional.sequence import NextItem, ranker_of
from lifelora.data.dataset import Samples, Targets
from lifelora.knowledge.experts import KnowledgeFields
from lifelora.progress import Progress
from lifelora.recipe.sections import Conventional
from lifelora.retrieval.select import Chosen
from lifelora.retrieval.shuffled import IN_WORDS, shuffled
from lifelora.run import knowledge
from lifelora.run.context import Context
from lifelora.run.fitted import Folds, fitted
from lifelora.run.scorers.base import MODEL, CatalogueScores, Requests, Scorer, Validate
from lifelora.stage import Stage
from lifelora.tensors import read_tensors, to_device, write_tensors
from lifelora.training import fit
from lifelora.training.checkpoint import Learnt
from lifelora.types import Layer, LayerOrRandom

BATCH = 2048
"""Samples that are scored together."""
CELLS = 1 << 24
"""Scores of a catalogue that are held at a time."""
Asked = Recommender | Ranker


class ConventionalScorer(Scorer):
    """What both tasks have of a conventional model."""

    family = "conventional"
    ids_alone = True

    def __init__(self, context: Context, name: str, stage: Stage, step: Conventional, fold: int | None = None) -> None:
        """``fold`` makes it the copy that is not fitted on that part of the training samples."""
        super().__init__(context, name, stage)
        self.step, self.fold = step, fold

    @cached_property
    def copies(self) -> list["ConventionalScorer"]:
        """As many as there are folds, each of which was not fitted on one."""
        stages = self.context.stages.folds(self.name) if self.fold is None else []
        return [type(self)(self.context, self.name, stage, self.step, fold) for fold, stage in enumerate(stages)]

    @cached_property
    def fitted(self) -> Int[np.ndarray, "N"]:
        """The training samples that it is fitted on."""
        return fitted(self.context, self.name) if self.fold is None else Folds.of(self.context, self.name).without(self.fold)

    @property
    def validation_count(self) -> int | None:
        return self.step.validation_samples

    @property
    def sees_target(self) -> bool:
        return self.sees_target_by("final")

    def check(self) -> None:
        self.step.model.check(self.context.dataset.schema())

    def sees_target_by(self, layer: Layer) -> bool:
        """Whether a layer's representation depends on the target: by itself, or by the behaviours that the model reads."""
        chosen = self.step.behaviours is not None and self.step.behaviours.needs_target
        knows_nobody = isinstance(self.model, Ranker) and not isinstance(self.model, NextItem)
        return chosen or (not knows_nobody and self.recommender.sees_target(layer))

    @cached_property
    def model(self) -> Asked:
        """As it was trained, ready to score."""
        return self.opened()

    @property
    def recommender(self) -> Recommender:
        """The model behind the question: what has representations and item vectors."""
        model = self.model
        if isinstance(model, NextItem):
            return model.model
        assert isinstance(model, Recommender)  # the recipe knows that counts represent no user
        return model

    @abstractmethod
    def asked(self, recommender: Recommender) -> Asked:
        """A model in the form in which the task asks it."""

    def untrained(self) -> Asked:
        """As training finds it."""
        context, step = self.context, self.step
        with seeds.torch_seeded(context.recipe.seed, "conventional", self.name):
            extra = None
            if step.knowledge is not None:
                assert isinstance(step.model, Common)
                known = knowledge.known(context, step.knowledge)
                extra = KnowledgeFields(step.knowledge_experts, known, step.model.embedding, step.model.init_std)
            return self.asked(step.model.build(context.dataset.schema(), extra))

    def opened(self) -> Asked:
        """Another copy of the trained model."""
        path, model = self.stage.require() / MODEL, self.untrained()
        if self.step.model.counts:
            model.load_state_dict(read_tensors(path)[0])
        else:
            Learnt(model).read(path)
        return model.to(self.context.device).eval()

    def train(self, folder: Path, validate: Validate) -> None:
        context, step = self.context, self.step
        model = self.untrained()
        if self.step.model.counts:
            assert isinstance(model, Counted)  # the contract of what counts
            model.fit(context.dataset)
            write_tensors(folder / MODEL, model.state_dict())
            self.model = model.to(context.device).eval()
            return
        self.model = model.to(context.device)
        rows_N, gather = self._training(model)
        fit(
            model,
            rows_N,
            gather,
            validate,
            step.training,
            folder,
            context.recipe.seed,
            name=self.name if self.fold is None else f"{self.name} without fold {self.fold + 1} of {step.folds}",
            device=context.device,
            progress=context.shows_progress,
        )

    def _training(self, model: Asked) -> tuple[Int[np.ndarray, "N"], Callable[[Int[np.ndarray, "B"]], Samples]]:
        """Numbers of the training samples, and what makes a batch of some of them."""
        rows, dataset = self.fitted, self.context.dataset
        targets = dataset.targets(rows)
        chosen = self._chosen(targets, model.history_length)
        if chosen is None:
            return rows, lambda rows_B: dataset.gather(dataset.targets(rows_B), model.history_length)
        # Chosen once for all: a batch is drawn from everywhere, and choosing goes by user.
        chosen_NK, mask_NK = chosen
        return np.arange(len(rows)), lambda index_B: dataset.gather(
            targets.at(index_B), model.history_length, (chosen_NK[index_B], mask_NK[index_B])
        )

    def samples(self, targets: Targets) -> Samples:
        """What the model reads of targets."""
        length = self.model.history_length
        return self.context.dataset.gather(targets, length, self._chosen(targets, length))

    def _chosen(self, targets: Targets, length: int) -> Chosen | None:
        """The behaviours that it reads; None: the last ones, as they happened."""
        context, step = self.context, self.step
        chosen = None if step.behaviours is None else context.selector(step.behaviours).select(context.dataset, targets)
        if step.control is None:
            return chosen
        return shuffled(chosen or context.dataset.history(targets, length), targets, context.recipe.seed)

    def represent(self, targets: Targets, layer: LayerOrRandom) -> Float[Tensor, "N D"]:
        """u of each target by one of the model's layers; or numbers drawn for its user, as many as the last layer has."""
        model = self.recommender
        if layer == "random":
            return drawn(self.context, model.width, targets, self.name)
        with torch.inference_mode():
            parts = [model.representation(self._placed(some), layer).cpu() for some in slices(targets, BATCH)]
        # A plain tensor: those of inference mode cannot be saved for backward.
        return torch.cat(parts).clone()

    def width(self, layer: LayerOrRandom) -> int:
        """D of a layer."""
        dataset = self.context.dataset
        return self.represent(dataset.targets(np.asarray(dataset.samples["train"][:1])), layer).shape[1]

    def item_embeddings(self) -> Float[Tensor, "M E"]:
        """One vector per item, on the CPU."""
        return self.recommender.item_embeddings().detach().cpu()

    def representer(self, layer: Layer, *, learns: bool) -> Recommender:
        """A copy of the model that makes u while something else learns; what has no part in u is frozen, or all of it is."""
        model = self.opened()
        recommender = model.model if isinstance(model, NextItem) else model
        assert isinstance(recommender, Recommender)
        recommender = recommender.cpu()
        if not learns:
            return recommender.requires_grad_(False)
        dataset = self.context.dataset
        some = self.samples(dataset.targets(np.asarray(dataset.samples["train"][:4])))
        with torch.enable_grad():
            recommender.representation(some, layer).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in recommender.parameters():
            parameter.requires_grad_(parameter.grad is not None)  # it would get no gradient in training, either
            parameter.grad = None
        return recommender

    def from_(self, layer: LayerOrRandom) -> str:
        """Where vectors of a layer come from, for a reader."""
        if layer == "random":
            return "drawn at random for each user"
        train, count = len(self.context.dataset.samples["train"]), len(self.fitted)
        of = "" if layer == "final" else f"layer '{layer}' of "
        return f"from {of}{self.name}, trained on {'all ' if count == train else ''}{count:,} samples"

    def reads(self) -> str:
        step, train = self.step, len(self.context.dataset.samples["train"])
        length, count = getattr(step.model, "history_length", 0), len(self.fitted)
        if not length and step.model.kind == "popularity":
            return f"{train:,} training samples, no user"
        if step.model.counts:
            user = f"what the user chose among the last {length} behaviours" if length else "the user's number"
            return f"counted in {len(self.context.dataset.training_events()):,} training events; {user}"
        read = step.behaviours.in_words() if step.behaviours else f"the last {length} behaviours"
        read += f", {IN_WORDS}" if step.control else ""
        known = ""
        if step.knowledge:
            known = f"; fields of {step.knowledge}: {knowledge.told(self.context.recipe.knowledge[step.knowledge])}"
        return f"ids; {read}; {count:,} training samples{known}"

    def _placed(self, targets: Targets) -> Samples:
        return to_device(self.samples(targets), self.context.device)


class NextItemModel(ConventionalScorer):
    """A conventional model that is asked which item comes next."""

    def asked(self, recommender: Recommender) -> Ranker:
        return ranker_of(recommender, self.context.dataset.new_items)

    def score(self, requests: Requests, said: str | None = None) -> Float[np.ndarray, "N C"]:
        return self._of_candidates(requests, partial(self.catalogue, requests.targets, said))

    def probabilities(self, requests: Requests) -> Float[np.ndarray, "N C"]:
        """That each candidate comes next, among the whole catalogue."""
        return self._of_candidates(requests, partial(self._blocks, requests.targets, None, probabilities=True))

    def over(self, targets: Targets, items_P: Int[np.ndarray, "P"]) -> Float[np.ndarray, "B P"]:
        """One product of the users' states with the vectors of all items."""
        blocks = self._blocks(targets, None, probabilities=True)
        return np.concatenate([of_all_BM[:, items_P] for _, of_all_BM in blocks])

    def catalogue(self, targets: Targets, said: str | None = None) -> CatalogueScores:
        return self._blocks(targets, said, probabilities=False)

    def _of_candidates(self, requests: Requests, blocks: Callable[[], CatalogueScores]) -> Float[np.ndarray, "N C"]:
        return np.concatenate([np.take_along_axis(of_all_BM, requests.candidates[some], axis=1) for some, of_all_BM in blocks()])

    def _blocks(self, targets: Targets, said: str | None, *, probabilities: bool) -> CatalogueScores:
        model, size = self.model, max(1, CELLS // self.context.dataset.n_items)
        assert isinstance(model, Ranker)
        with Progress(said or "", len(targets), enabled=bool(said) and self.context.shows_progress) as ticker:
            for start in range(0, len(targets), size):
                some = slice(start, start + size)
                with torch.inference_mode():
                    batch = self._placed(targets.at(some))
                    scores_BM = model.probabilities(batch).double() if probabilities else model.scores(batch).float()
                # A copy: what is the same for all users is one row, and may be the model's own. Items that came later have no
                # vector, and stand behind all others.
                later, least = self.context.dataset.n_items - scores_BM.shape[1], 0.0 if probabilities else -np.inf
                yield some, np.pad(scores_BM.cpu().numpy(), ((0, 0), (0, later)), constant_values=least)
                ticker.advance(len(scores_BM))


def drawn(context: Context, width: int, targets: Targets, *stream: str) -> Float[Tensor, "N D"]:
    """Random vectors, the same for all targets of a user; zeros for one who came after training."""
    generator = seeds.torch_generator(context.recipe.seed, "random representation", *stream)
    known = context.dataset.known_users
    drawn_UD = F.pad(torch.randn(known, width, generator=generator), (0, 0, 0, 1))
    return drawn_UD[torch.from_numpy(targets.user_B).long().clamp(max=known)]


def slices(targets: Targets, size: int) -> Iterator[Targets]:
    """Targets, ``size`` at a time."""
    for start in range(0, len(targets), size):
        yield targets.at(slice(start, start + size))
