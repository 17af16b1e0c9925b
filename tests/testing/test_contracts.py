"""lifelora's own kinds keep the contracts that it ships, and every check refuses a class that breaks what it is about."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields, Recommender
from lifelora.data.dataset import Dataset, Samples, Schema
from lifelora.data.raw import RawTables, Words
from lifelora.data.sources.base import Source
from lifelora.data.sources.simulated import Simulated
from lifelora.data.sources.tables import Tables
from lifelora.kinds import COUPLINGS, SELECTORS
from lifelora.lora.coupling import Coupling, Experts, Full, Hydra, Identity, Meta, Static
from lifelora.lora.structure import Dense, Structure
from lifelora.retrieval.select import Selector
from lifelora.testing import check_all, couplings, models, selectors, sources, vectors
from lifelora.testing.world import two_tribes
from lifelora.vectors.base import ItemVectors, TextVectors, Tools, Vectors
from lifelora.vectors.precomputed import Precomputed


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return two_tribes(tmp_path_factory.mktemp("tribes"))


def refused(check: Callable[[Any], None], case: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        check(case)
    return str(caught.value)


# Couplings -----------------------------------------------------------------------------------------------------------------

EVERY_COUPLING = [
    Identity.Config(rank=4),
    Static.Config(rank=4),
    Experts.Config(rank=4, experts=2),
    Experts.Config(rank=4, experts=2, gate="token"),
    Meta.Config(rank=2, loras=3),
    Meta.Config(rank=2, loras=3, merge="outputs", gate="token"),
    Hydra.Config(rank=2, heads=3),
    Hydra.Config(rank=2, heads=3, gate="token"),
    Full.Config(rank=4),
    Full.Config(rank=4, start="random"),
]


@pytest.mark.parametrize("check", couplings.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("config", EVERY_COUPLING, ids=lambda config: f"{config.kind}-{getattr(config, 'gate', '')}")
def test_our_couplings(config: Coupling.Config, check: Callable[[couplings.Case], None]):
    check(couplings.Case(config))


def test_every_coupling_of_ours_is_among_them():
    assert {config.kind for config in EVERY_COUPLING} == set(COUPLINGS.ours)


class Tilt(Coupling):
    """C(u) = (1 + w·u) I: as small as a personal coupling can be, and a sound one."""

    class Config(Coupling.Config):
        flaw: str = ""

        @property
        def needs_user(self) -> bool:
            return self.flaw != "needs nobody"

        @property
        def columns(self) -> int:
            return self.rank

        def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> "Tilt":
            width = 6 if self.flaw == "guesses u" and user_width is None else self.users(user_width)
            return Tilt(self, len(inputs), width, generator)

    config: Config

    def __init__(self, config: Config, layers: int, width: int, generator: torch.Generator) -> None:
        super().__init__(config, width)
        chance = None if config.flaw == "torch's chance" else generator
        self.w_SD = nn.Parameter(torch.randn(layers, width, generator=chance))
        if config.flaw == "dead":
            self.dead = nn.Parameter(torch.zeros(3))
        self.seen = torch.zeros(1)

    def structure(self, u_BD: Tensor) -> Structure:
        if self.config.flaw == "same for all":
            u_BD = torch.ones_like(u_BD) + 0 * u_BD
        if self.config.flaw == "of the batch":
            u_BD = u_BD - u_BD.mean(dim=0)
        if self.config.flaw == "remembers":
            self.seen = self.seen + 1
            u_BD = u_BD * self.seen.to(u_BD)
        w_SB = 1 + torch.einsum("sd,bd->sb", self.w_SD, u_BD.detach() if self.config.flaw == "cuts u" else u_BD)
        size = self.config.rank + (self.config.flaw == "another size")
        C_SBQP = w_SB[:, :, None, None] * torch.eye(size, dtype=u_BD.dtype)
        return Squared(C_SBQP) if self.config.flaw == "splits otherwise" else Dense(C_SBQP)


class Squared(Structure):
    """Multiplies by C, and says that it is C²."""

    @property
    def rows(self) -> int:
        return self.tensor.shape[3]

    @property
    def columns(self) -> int:
        return self.tensor.shape[2]

    def couple(self, layer: int, h_BPL: Tensor, x_BLI: Tensor) -> Tensor:
        return torch.bmm(self.tensor[layer], h_BPL)

    def split(self, layer: int, row: int) -> tuple[Tensor, Tensor | None]:
        return self.tensor[layer, row] @ self.tensor[layer, row], None


class Forgetful(Tilt):
    """Its Config takes any key and keeps none of them."""

    class Config(Tilt.Config, extra="ignore"): ...


class Wild(Tilt):
    """B = 0 times its scale is no number."""

    class Config(Tilt.Config):
        @property
        def scaling(self) -> float:
            return float("inf")


def test_a_sound_coupling_of_somebody_else_passes():
    check_all(couplings.CHECKS, couplings.Case(Tilt.Config(rank=4)))


BROKEN_COUPLINGS: dict[Callable[[couplings.Case], None], Coupling.Config] = {
    couplings.a_recipe_can_name_it: Forgetful.Config(rank=4),
    couplings.b_zero_is_the_backbone: Wild.Config(rank=4),
    couplings.c_has_the_size_that_the_configuration_says: Tilt.Config(rank=4, flaw="another size"),
    couplings.a_batch_is_each_user_alone: Tilt.Config(rank=4, flaw="of the batch"),
    couplings.users_differ_where_a_user_is_needed: Tilt.Config(rank=4, flaw="same for all"),
    couplings.a_user_is_asked_for_where_one_is_needed: Tilt.Config(rank=4, flaw="guesses u"),
    couplings.it_is_the_dense_weights_of_each_user: Tilt.Config(rank=4, flaw="splits otherwise"),
    couplings.everything_that_trains_gets_a_gradient: Tilt.Config(rank=4, flaw="dead"),
    couplings.saving_and_loading_changes_no_score: Tilt.Config(rank=4, flaw="remembers"),
    couplings.chance_comes_from_the_generator_alone: Tilt.Config(rank=4, flaw="torch's chance"),
}


@pytest.mark.parametrize("check", couplings.CHECKS, ids=lambda check: check.__name__)
def test_every_check_of_couplings_refuses_a_broken_one(check: Callable[[couplings.Case], None]):
    assert refused(check, couplings.Case(BROKEN_COUPLINGS[check]))


# Conventional models -------------------------------------------------------------------------------------------------------


class Tiny(Recommender):
    """logit = <mean of the past's item vectors, each times a number of its rating; t> + b."""

    class Config(Recommender.Config):
        next_item: ClassVar[bool] = True
        flaw: str = ""

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "Tiny":
            return Tiny(self, schema)

    history_length, target_aware, width = 30, False, 8

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        self.flaw, self.bias = config.flaw, 0.0
        if self.flaw == "own chance":
            torch.seed()
        self.items, self.ratings = nn.Embedding(schema.n_items + 1, 8), nn.Embedding(schema.n_ratings + 1, 1)
        if self.flaw == "too wide":
            self.width = 9
        if self.flaw == "dead":
            self.dead = nn.Parameter(torch.zeros(2))

    def represent(self, batch: Samples) -> Tensor:
        mask_BH = torch.ones_like(batch.mask_BH) if self.flaw == "reads padding" else batch.mask_BH
        h_BHE = self.items(batch.history_BH) * self.ratings(batch.rating_BH) * mask_BH[..., None]
        count_B1 = (torch.ones_like(mask_BH) if self.flaw == "counts padding" else mask_BH).sum(dim=1, keepdim=True)
        u_BE = h_BHE.sum(dim=1) / count_B1.clamp(min=1)
        return u_BE - u_BE.mean(dim=0) if self.flaw == "of the batch" else u_BE

    def logits(self, batch: Samples) -> Tensor:
        if self.flaw == "keeps a number of its own" and self.training:
            self.bias += 0.1
        scale = {"learns nothing": 0.0, "no number": float("nan")}.get(self.flaw, 1.0)
        return scale * (self.represent(batch) * self.items(batch.item_B)).sum(dim=1) + self.bias

    def represent_fields(self, batch: Samples) -> Tensor:
        return torch.cat([self.represent(batch), self.items(batch.item_B)], dim=1)

    def represent_user(self, batch: Samples) -> Tensor:
        return self.represent_fields(batch) if self.flaw == "tells the target" else self.represent(batch)

    def item_embeddings(self) -> Tensor:
        return self.items.weight if self.flaw == "one too many" else self.items.weight[:-1]


class ForgetfulTiny(Tiny):
    class Config(Tiny.Config, extra="ignore"): ...


class Counted(Tiny):
    """Says that it counts."""

    class Config(Tiny.Config):
        counts: ClassVar[bool] = True

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> Tiny:
            return Counted(self, schema)

    def fit(self, dataset: Dataset) -> None:
        self.items.weight.data.fill_(float(dataset.label_N.sum()) if self.flaw == "reads test" else 1.0)


class Proud(Counted):
    class Config(Counted.Config):
        next_item: ClassVar[bool] = True


def test_a_sound_model_of_somebody_else_passes(data: Dataset):
    check_all(models.CHECKS, models.Case(Tiny.Config(), data))


BROKEN_MODELS: dict[Callable[[models.Case], None], Recommender.Config] = {
    models.a_recipe_can_name_it: ForgetfulTiny.Config(),
    models.what_can_be_learnt_is_learnt: Tiny.Config(flaw="learns nothing"),
    models.a_batch_is_its_rows: Tiny.Config(flaw="of the batch"),
    models.the_loss_is_the_mean_negative_log_likelihood: Tiny.Config(flaw="no number"),
    models.u_is_as_wide_and_as_target_aware_as_it_says: Tiny.Config(flaw="too wide"),
    models.every_item_has_a_vector: Tiny.Config(flaw="one too many"),
    models.weights_are_all_that_has_to_be_kept: Tiny.Config(flaw="keeps a number of its own"),
    models.what_stands_in_padding_does_not_matter: Tiny.Config(flaw="reads padding"),
    models.any_amount_of_left_padding_gives_the_same: Tiny.Config(flaw="counts padding"),
    models.every_layer_is_u_of_each_alone_and_knows_the_target_as_it_says: Tiny.Config(flaw="tells the target"),
    models.the_same_seed_gives_the_same_weights_and_another_seed_others: Tiny.Config(flaw="own chance"),
    models.every_parameter_learns: Tiny.Config(flaw="dead"),
    models.a_counted_model_represents_nobody: Counted.Config(),
    models.a_counted_model_ranks_a_catalogue_if_it_says_so: Proud.Config(),
    models.a_counted_model_learns_nothing_from_test: Counted.Config(flaw="reads test"),
}


@pytest.mark.parametrize("check", BROKEN_MODELS, ids=lambda check: check.__name__)
def test_every_check_of_models_refuses_a_broken_one(check: Callable[[models.Case], None], data: Dataset):
    assert {*models.CHECKS, *models.COUNTED} == set(BROKEN_MODELS)
    flaw = getattr(BROKEN_MODELS[check], "flaw", "")
    steps = 0 if flaw == "learns nothing" else 3
    assert refused(check, models.Case(BROKEN_MODELS[check], data, steps=steps))


# Selectors -----------------------------------------------------------------------------------------------------------------


class Latest(Selector):
    """The last three."""

    class Config(Selector.Config):
        needs_target: ClassVar[bool] = False
        flaw: str = ""

        def build(self, vectors_ME: Tensor | None = None) -> "Latest":
            return Latest(self)

    def __init__(self, config: Config) -> None:
        self.flaw = config.flaw

    def _choose(self, dataset: Dataset, targets: Any) -> Any:
        if self.flaw == "twice":
            rows_BK, mask_BK = dataset.history(targets, 1)
            return rows_BK.repeat(2, axis=1), mask_BK.repeat(2, axis=1)
        if self.flaw == "of the batch" and len(targets) > 1:
            return dataset.history(targets, 2)
        return dataset.history(targets, 2 if self.flaw == "of the whole log" and len(dataset) > 960 else 3)


class ForgetfulLatest(Latest):
    class Config(Latest.Config, extra="ignore"): ...


class Boasting(Latest):
    class Config(Latest.Config):
        needs_target: ClassVar[bool] = True
        needs_vectors: ClassVar[bool] = True


BROKEN_SELECTORS: dict[Callable[[selectors.Case], None], Selector.Config] = {
    selectors.a_recipe_can_name_it: ForgetfulLatest.Config(),
    selectors.nothing_of_the_future_is_chosen_and_nothing_twice: Latest.Config(flaw="twice"),
    selectors.a_batch_is_its_rows: Latest.Config(flaw="of the batch"),
    selectors.what_comes_later_changes_nothing: Latest.Config(flaw="of the whole log"),
    selectors.the_target_matters_where_it_is_needed: Boasting.Config(),
    selectors.vectors_are_asked_for_where_they_are_needed: Boasting.Config(),
}


@pytest.mark.parametrize("check", selectors.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", [*SELECTORS.ours, f"{__name__}:Latest"])
def test_our_selectors(kind: str, check: Callable[[selectors.Case], None], data: Dataset):
    size = {"similar-and-recent": {"similar": 3, "recent": 2}}.get(kind, {} if ":" in kind else {"k": 5})
    check(selectors.Case(SELECTORS.find(kind)(**size), data))


@pytest.mark.parametrize("check", selectors.CHECKS, ids=lambda check: check.__name__)
def test_every_check_of_selectors_refuses_a_broken_one(check: Callable[[selectors.Case], None], data: Dataset):
    assert refused(check, selectors.Case(BROKEN_SELECTORS[check], data))


# Sources -------------------------------------------------------------------------------------------------------------------


class Lines(Source):
    """A file of lines ``user item rating``."""

    path: str
    flaw: str = ""

    @property
    def label(self) -> str:
        return "lines"

    def files(self) -> list[Path]:
        return {"names none": [], "names another": [Path(self.path + ".none")]}.get(self.flaw, [Path(self.path)])

    def read(self, download: bool = False) -> RawTables:
        rows = [line.split() for line in Path(self.path).read_text().splitlines() if line]
        user, item, rating = (list(column) for column in zip(*rows, strict=True))
        if self.flaw == "one event each":
            user = [f"{name}{number}" for number, name in enumerate(user)]
        if self.flaw == "drawn anew":
            np.random.default_rng().shuffle(item)
        kind = pa.float64() if self.flaw == "other types" else pa.float32()
        log = pa.table({"user": user, "item": item, "rating": pa.array(map(float, rating), kind)})
        items, users = sorted(set(item)), sorted(set(user))
        return RawTables(log, pa.table({"item": items, "title": items}), pa.table({"user": users}), Words())


class ForgetfulLines(Lines, extra="ignore"): ...


BROKEN_SOURCES: dict[Callable[[sources.Case], None], Any] = {
    sources.a_recipe_can_name_it: ForgetfulLines,
    sources.the_tables_are_as_raw_tables_say: "other types",
    sources.it_can_be_prepared: "one event each",
    sources.reading_again_gives_the_same: "drawn anew",
    sources.it_names_its_files: "names another",
    sources.it_names_every_file_that_it_reads: "names none",
}


@pytest.fixture
def log(tmp_path: Path) -> str:
    lines = [f"u{user} i{(user * 3 + event) % 9} {1 + (user + event) % 5}" for user in range(6) for event in range(7)]
    (tmp_path / "log.txt").write_text("\n".join(lines))
    return str(tmp_path / "log.txt")


@pytest.mark.parametrize("check", sources.CHECKS, ids=lambda check: check.__name__)
def test_sources(check: Callable[[sources.Case], None], log: str, tmp_path: Path):
    """Ours whose files can be written here in few lines; the tests of each other one hold it to its published files."""
    header = "user,item,rating\n"
    (tmp_path / "interactions.csv").write_text(header + Path(log).read_text().replace(" ", ","))
    tables = Tables(interactions=str(tmp_path / "interactions.csv"))
    for config in (Lines(path=log), tables, Simulated(users=30, items=100, events_per_user=20)):
        check(sources.Case(config))


@pytest.mark.parametrize("check", sources.CHECKS, ids=lambda check: check.__name__)
def test_every_check_of_sources_refuses_a_broken_one(check: Callable[[sources.Case], None], log: str):
    broken = BROKEN_SOURCES[check]
    assert refused(check, sources.Case(Lines(path=log, flaw=broken) if isinstance(broken, str) else broken(path=log)))


# Vectors -------------------------------------------------------------------------------------------------------------------


class Letters(TextVectors):
    """How often each letter stands in a text."""

    flaw: str = ""
    dimensions: int | None = None

    def read(self, texts: Sequence[str], tools: Tools) -> Tensor:
        letters = "abcdefghijklmnopqrstuvwxyz0123456789"
        counts = torch.tensor([[text.count(letter) for letter in letters] for text in texts]).float()
        if self.flaw == "drawn":
            counts += torch.rand(counts.shape)
        return torch.arange(len(counts))[:, None] + counts if self.flaw == "by place" else counts


class ForgetfulLetters(Letters, extra="ignore"): ...


class Short(ItemVectors):
    """One item has no vector."""

    def of_items(self, dataset: Dataset, tools: Tools) -> Vectors:
        return Vectors(torch.ones(dataset.n_items - 1, 3))

    def files(self) -> tuple[str, ...]:
        return ()

    def in_words(self) -> str:
        return "ones"


BROKEN_VECTORS: dict[Callable[[vectors.Case], None], ItemVectors] = {
    vectors.a_recipe_can_name_it: ForgetfulLetters(),
    vectors.every_item_has_a_vector: Short(),
    vectors.making_them_again_gives_the_same: Letters(flaw="drawn"),
    vectors.a_text_has_its_own_vector: Letters(flaw="by place"),
}


@pytest.mark.parametrize("check", vectors.CHECKS, ids=lambda check: check.__name__)
def test_makers_of_vectors(check: Callable[[vectors.Case], None], data: Dataset, tmp_path: Path):
    ids = data.items.outside(np.arange(data.n_items))
    pq.write_table(pa.table({"item": ids, "vector": [[float(n), 1.0] for n in range(len(ids))]}), tmp_path / "v.parquet")
    for config in (Letters(), Letters(dimensions=4), Precomputed(path=str(tmp_path / "v.parquet"))):
        check(vectors.Case(config, data))


@pytest.mark.parametrize("check", vectors.CHECKS, ids=lambda check: check.__name__)
def test_every_check_of_vectors_refuses_a_broken_one(check: Callable[[vectors.Case], None], data: Dataset):
    assert refused(check, vectors.Case(BROKEN_VECTORS[check], data))
