"""Fields with several values, for every model that reads fields: the mean of the rows of the values, worked out by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lifelora.conventional import AnyRecommender
from lifelora.conventional.autoint import AutoInt
from lifelora.conventional.caser import Caser
from lifelora.conventional.dcnv2 import DCNv2
from lifelora.conventional.deepfm import DeepFM
from lifelora.conventional.din import DIN
from lifelora.conventional.gru4rec import GRU4Rec
from lifelora.conventional.sasrec import SASRec
from lifelora.data.dataset import Dataset
from lifelora.testing import models
from lifelora.testing.world import two_tribes

from .contract import extra_fields

SMALL = {"history_length": 6, "embedding": 8, "hidden": 16, "layers": 1, "init_std": 0.3, "min_users": 1}
CONFIGS = [DeepFM.Config, AutoInt.Config, DCNv2.Config, GRU4Rec.Config, Caser.Config, SASRec.Config, DIN.Config]
MADE = [config(**SMALL) for config in CONFIGS]


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return two_tribes(tmp_path_factory.mktemp("several"), several=True)


def as_one(data: Dataset, folder: Path) -> Dataset:
    """The same data set in which each set of values is one value of its own."""
    for path in data.folder.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(data.folder)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(data.folder)).write_bytes(path.read_bytes())
    for name, field in (("catalogue", "genre"), ("profiles", "hobby")):
        table = pq.read_table(folder / f"{name}.parquet")
        whole = pa.array(["+".join(values) for values in table.column(field).to_pylist()])
        pq.write_table(table.set_column(table.column_names.index(field), field, whole), folder / f"{name}.parquet")
    return Dataset(folder)


def numbers(values: list[list[str]]) -> dict[str, int]:
    """Codes of values, by hand: 1, 2, … in the order in which they are first met."""
    return {value: code for code, value in enumerate(dict.fromkeys(one for row in values for one in row), start=1)}


@pytest.mark.parametrize("user_id", [False, True], ids=["fields", "with-id"])
@pytest.mark.parametrize("config", MADE, ids=lambda config: config.kind)
def test_a_set_of_values_is_worth_one_value_whose_row_is_their_mean(
    several: Dataset, tmp_path: Path, config: AnyRecommender, user_id: bool
):
    """Every table of a second model, in which each set is one value, is filled by hand from the rows of the first."""
    one, config = as_one(several, tmp_path), config.model_copy(update={"user_id": user_id})
    torch.manual_seed(1)
    model, other = config.build(several.schema()).double().eval(), config.build(one.schema()).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    genres, hobbies = several.catalogue.column("genre").to_pylist(), several.profiles.column("hobby").to_pylist()
    genre_of, hobby_of = numbers(genres), numbers(hobbies)
    # Ids of items, ratings (each with its padding), users; then age, hobby and genre, each with its unknown.
    before = several.n_items + 1 + 2 + 1 + user_id * several.n_users + 4
    sizes = {"of several": (len(hobby_of) + 1, len(genre_of) + 1), "as one": (4, 5)}
    assert sizes["of several"] == (3, 5)
    assert several.schema().user_field_sizes == (4, 3)
    assert one.schema().item_field_sizes == (5,)

    def filled(rows: torch.Tensor) -> torch.Tensor:
        hobby, genre = rows[before : before + 3], rows[before + 3 :]
        made = [rows[:before]]
        for values, table, codes in ((hobbies, hobby, hobby_of), (genres, genre, genre_of)):
            sets = list(dict.fromkeys("+".join(row) for row in values))
            assert "" in sets
            means = [torch.stack([table[codes[one]] for one in row.split("+")]).mean(0) if row else table[0] * 0 for row in sets]
            made += [table[:1], torch.stack(means)]  # code 0 is unknown; the empty text has a code that nothing reads
        return torch.cat(made)

    state = model.state_dict()
    other.load_state_dict({name: filled(rows) if len(rows) == before + 8 else rows for name, rows in state.items()})
    rows = np.arange(len(several))
    batches = [data.gather(data.targets(rows), model.history_length) for data in (several, one)]
    with torch.no_grad():
        for layer in ("final", "fields", "user"):
            pair = [m.representation(batch, layer) for m, batch in zip((model, other), batches, strict=True)]
            torch.testing.assert_close(*pair, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(model.logits(batches[0]), other.logits(batches[1]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("knowing", [False, True], ids=["plain", "knowing"])
def test_vectors_are_means_of_rows(several: Dataset, knowing: bool):
    """User's fields age and hobby, target's fields id and genre, sample by sample; extra ones behind those of their side."""
    extra = extra_fields(several, 8) if knowing else None
    model = DIN.Config(**SMALL).build(several.schema(), extra).eval()
    batch = several.gather(several.targets(np.arange(len(several))), 6)
    with torch.no_grad():
        vectors_BFE, table = model.inputs.vectors(batch), model.inputs.table.weight
    ages, hobbies = several.profiles.column("age").to_pylist(), several.profiles.column("hobby").to_pylist()
    genres = several.catalogue.column("genre").to_pylist()
    age_of = {"": 0, "young": 2, "old": 3}  # the empty text has code 1, which nothing reads
    hobby_of, genre_of, at = numbers(hobbies), numbers(genres), several.n_items + 1 + 2 + 1
    for b in range(0, len(several), 7):
        user, item = int(batch.user_B[b]), int(batch.item_B[b])
        expected = [
            table[at + age_of[ages[user]]],
            table[[at + 4 + hobby_of[one] for one in hobbies[user]] or [at + 4]].mean(0),
            table[item],
            table[[at + 7 + genre_of[one] for one in genres[item]] or [at + 7]].mean(0),
        ]
        found = vectors_BFE[b][[0, 1, 3, 4]] if knowing else vectors_BFE[b]
        torch.testing.assert_close(found, torch.stack(expected))
    assert {len(row) for row in genres} == {0, 1, 2, 3}


def test_a_value_that_few_users_share_is_left_out_of_the_mean(several: Dataset):
    """hobby: x has 26 users, y 12 of these."""
    schema = several.schema()
    assert np.bincount([len(row) for row in several.profiles.column("hobby").to_pylist()]).tolist() == [16, 12, 12]
    config = DIN.Config(**SMALL | {"min_users": 13})
    model, batch = config.build(schema), several.gather(several.targets(np.arange(len(several))), 6)
    vectors_BFE, at = model.inputs.vectors(batch), several.n_items + 1 + 2 + 1 + 4
    both = [user for user, row in enumerate(several.profiles.column("hobby").to_pylist()) if row == ["y", "x"]]
    x = numbers(several.profiles.column("hobby").to_pylist())["x"]
    here = np.isin(batch.user_B.numpy(), both)
    assert here.any()
    assert torch.equal(vectors_BFE[here, 1], model.inputs.table.weight[at + x].expand(int(here.sum()), -1))


@pytest.mark.parametrize("check", models.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("config", [MADE[0], MADE[-1]], ids=lambda config: config.kind)
def test_the_contract_holds_with_several_values(several: Dataset, config: AnyRecommender, check: Callable[[models.Case], None]):
    check(models.Case(config, several))


def test_an_item_that_came_later_has_no_value(several: Dataset):
    model = DIN.Config(**SMALL).build(several.schema()).eval()
    fields = model.inputs.of_item
    assert fields.rows_NX.shape == (several.n_items + 1, 1 + 3)
    assert fields.read_NX[[-1, 0, 2, 4, 6]].sum(dim=1).tolist() == [1 + 1, 1 + 1, 1 + 1, 1 + 2, 1 + 3]
