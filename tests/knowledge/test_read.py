"""Vectors of knowledge: files are aligned by state, and makers have the defaults of long texts."""

import tomllib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from knowledge_world import log
from pydantic import TypeAdapter, ValidationError

from lifelora.errors import ConfigError
from lifelora.knowledge.questions import shown
from lifelora.knowledge.read import BY_LM, AnyKnowledge, OwnKnowledge
from lifelora.knowledge.write import LM, AnyWriter, EndpointWriter, RawPrompt
from lifelora.recipe.files import dump, parse
from lifelora.run.knowledge import told
from lifelora.vectors.base import Tools
from lifelora.vectors.encode import HiddenStates, SentenceEncoder
from lifelora.vectors.endpoint import EndpointVectors


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return log(tmp_path_factory.mktemp("library"))


def files(folder, users, events, vectors):
    pq.write_table(pa.table({"user": users, "events": events, "vector": vectors}), folder / "users.parquet")
    pq.write_table(pa.table({"item": ["b00000", "b00002"], "vector": [[1.0, 2.0], [3.0, 4.0]]}), folder / "items.parquet")
    return OwnKnowledge(items=str(folder / "items.parquet"), users=str(folder / "users.parquet"))


def test_vectors_of_ones_own_go_to_the_states_that_may_read_them(library, tmp_path):
    config = files(tmp_path, ["u00001", "u00000", "u00000", "x", "u00000"], [4, 7, 0, 1, 6], [[5.0], [7.0], [1.0], [9.0], [6.0]])
    made = config.of_states(library, 3)
    asked = shown(library, 3, 1)
    # u00000's are of 0, 6 and 7 events: after 3 events the first may be read, after 6 the second, after 9 the third.
    at = {0: {1: 1.0, 2: 6.0}, 1: {1: 0.0}}
    for user, number, value in zip(asked.user_N.tolist(), asked.number_N.tolist(), made.vectors_NE[:, 0].tolist(), strict=True):
        assert value == at.get(user, {}).get(number, {0: 7.0, 1: 5.0}.get(user, 0.0)), (user, number)
    lacking, unknown = made.notes
    assert lacking.startswith(f"{int((made.vectors_NE == 0).sum())} of {len(asked)} states of users have no vector")
    assert unknown.startswith("1 of 5 vectors in 'users.parquet' are of users that the data do not have")
    items = config.of_items(library, Tools())
    assert items.vectors_NE[:3].tolist() == [[1, 2], [0, 0], [3, 4]]
    assert items.notes[0].startswith("78 of 80 items have no vector")


@pytest.mark.parametrize(
    ("users", "events", "vectors", "message"),
    [
        (["x"], [1], [[1.0]], "a vector of none of the 24 users: its ids are like 'x', those of the data like 'u00000'"),
        (["u00000"] * 2, [3, 3], [[1.0], [2.0]], "more than one vector of user 'u00000' after 3 events"),
        (["u00000", None], [3, 3], [[1.0], [2.0]], "lacks the id in 1 of 2 rows"),
        (["u00000"], [-1], [[1.0]], "below 0"),
        (["u00000"], [1.5], [[1.0]], "double in 'events', where whole numbers belong"),
        (["u00000"] * 2, [1, 2], [[1.0], [2.0, 3.0]], "1 numbers in most of them, 2 in that of user 'u00000'"),
        (["u00000"], [1], [[float("inf")]], "no finite float32 numbers"),
        (["u00000"], [1], [["a"]], "where lists of numbers belong"),
    ],
)
def test_files_that_are_wrong(library, tmp_path, users, events, vectors, message):
    with pytest.raises(ConfigError, match=message):
        files(tmp_path, users, events, vectors).of_states(library, 3)


def test_files_that_are_none(library, tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        OwnKnowledge(items="a", users=str(tmp_path / "absent")).of_states(library, 3)
    (tmp_path / "text").write_text("user,events,vector")
    with pytest.raises(ConfigError, match="is no Parquet file"):
        OwnKnowledge(items="a", users=str(tmp_path / "text")).of_states(library, 3)
    pq.write_table(pa.table({"user": ["a"]}), tmp_path / "few")
    with pytest.raises(ConfigError, match="has no column 'events'; its columns are user"):
        OwnKnowledge(items="a", users=str(tmp_path / "few")).of_states(library, 3)


def test_configurations():
    writers, vectors = TypeAdapter(AnyWriter), TypeAdapter(AnyKnowledge)
    assert [writers.validate_python({"kind": kind}) for kind in ("prompt", "lm")] == [RawPrompt(), LM()]
    assert LM().max_new_tokens == 128
    given = {"kind": "endpoint", "url": "https://host/v1/", "model": "m", "key_variable": "null"}
    assert writers.validate_python(given) == EndpointWriter(url="https://host/v1", model="m")
    assert vectors.validate_python(given) == EndpointVectors(url="https://host/v1", model="m")
    assert vectors.validate_python({"kind": "hidden-states"}) == BY_LM
    assert HiddenStates(max_tokens=1024, batch_size=16, dimensions=None) == BY_LM
    assert vectors.validate_python({"kind": "hidden-states", "dimensions": 9}).dimensions == 9
    read = vectors.validate_python({"kind": "sentence-encoder", "model": "m"})
    assert read == SentenceEncoder(model="m", batch_size=64, dimensions=None)
    with pytest.raises(ValidationError, match="'hidden-states', 'sentence-encoder', 'endpoint', 'precomputed'"):
        vectors.validate_python({"kind": "bert"})


def test_each_section_of_a_recipe_has_its_own_defaults():
    values = {
        "name": "both",
        "conventional": {"p": {"model": {"kind": "popularity"}}},
        "knowledge": {"k": {}, "s": {"vectors": {"kind": "sentence-encoder", "model": "m"}}},
    }
    recipe = parse(values, "both")
    assert recipe.vectors == HiddenStates(max_tokens=256, batch_size=64, dimensions=512)
    assert recipe.knowledge["k"].vectors == BY_LM
    assert recipe.knowledge["s"].vectors.dimensions is None
    some = parse(values | {"vectors": {"dimensions": "null"}, "knowledge": {"k": {"vectors": {"max_tokens": 7}}}}, "both")
    assert some.vectors == HiddenStates(dimensions=None)
    assert some.knowledge["k"].vectors == HiddenStates(max_tokens=7, batch_size=16, dimensions=None)
    for one in (recipe, some):
        assert parse(tomllib.loads(dump(one)), "again") == one


def test_a_report_says_what_was_read_by_what():
    at = {"url": "http://localhost/v1", "model": "m"}
    sections = {
        "k": {},
        "e": {"text": {"kind": "endpoint", **at}, "vectors": {"kind": "endpoint", **at}},
        "s": {"text": {"kind": "lm"}, "vectors": {"kind": "sentence-encoder", "model": "minilm"}},
        "own": {"vectors": {"kind": "precomputed", "items": "a", "users": "b"}},
    }
    recipe = parse({"name": "w", "conventional": {"p": {"model": {"kind": "popularity"}}}, "knowledge": sections}, "w")
    assert {name: told(section) for name, section in recipe.knowledge.items()} == {
        "k": "questions, read by the language model",
        "e": "texts of an endpoint, read by an endpoint",
        "s": "texts of the language model, read by minilm",
        "own": "vectors from files",
    }
