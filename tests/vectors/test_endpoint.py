"""Vectors of an endpoint: each text is asked for once, in its place, and what is no vector is an error."""

import base64
import json

import numpy as np
import pytest
import torch

from endpoint_world import usual
from lifelora.endpoint.caller import EndpointError
from lifelora.errors import ArtefactError
from lifelora.vectors.base import Tools
from lifelora.vectors.endpoint import FILE, EndpointVectors


def embed(texts, config, folder):
    return config.read(texts, Tools(folder=folder))


def test_vectors(server, tmp_path, waits):
    config = EndpointVectors(url=server.url, model="e", batch_size=2, together=1, retries=0)
    texts = ["a", "bb", "ccc", "a", "dddd", "eeeee"]
    server.planned = [(200, {}, usual("/embeddings", {"input": ["a", "bb"]})), (500, {}, b"")]
    with pytest.raises(EndpointError, match="failed 1 times"):
        embed(texts, config, tmp_path)
    made = embed(texts, config, tmp_path)  # in their order, though they come in another
    assert made.dtype == torch.float32
    assert made.tolist() == [[1, 0, 0.5], [2, 1, 0.5], [3, 0, 0.5], [1, 0, 0.5], [4, 1, 0.5], [5, 0, 0.5]]
    assert [request[1]["input"] for request in server.requests] == [["a", "bb"], ["ccc", "dddd"], ["ccc", "dddd"], ["eeeee"]]
    assert server.requests[0][:2] == ("/v1/embeddings", {"model": "e", "input": ["a", "bb"]})


@pytest.mark.parametrize("rows", [[[1.0]], [[1.0], [1.0, 2.0]], [[1.0], [float("nan")]], [["x"], ["y"]], [[], []]])
def test_vectors_that_are_none(server, tmp_path, rows):
    server.planned = [(200, {}, {"data": [{"index": place, "embedding": row} for place, row in enumerate(rows)]})]
    with pytest.raises(EndpointError, match="did not answer as an OpenAI-compatible endpoint does"):
        embed(["a", "b"], EndpointVectors(url=server.url, model="e"), tmp_path)


@pytest.mark.parametrize("text", ["%%%", "AAAA", "AAA=", base64.b64encode(np.float32([1, np.nan, 3]).tobytes()).decode(), ""])
def test_kept_vectors_that_are_damaged(server, tmp_path, text):
    config = EndpointVectors(url=server.url, model="e")
    embed(["a", "bb"], config, tmp_path)
    path = tmp_path / FILE
    lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(lines[0]) | {"text": text}), *lines[1:]]) + "\n")
    with pytest.raises((ArtefactError, EndpointError), match="embedded.jsonl"):
        embed(["a", "bb"], config, tmp_path)


def test_texts_are_asked_for_once_and_empty_ones_never(server, tmp_path):
    config, texts = EndpointVectors(url=server.url, model="e"), ["Likes crime.", "", "Hates war.", "Likes crime.", " \n"]
    made = config.of_texts(texts, Tools(folder=tmp_path)).vectors_NE
    assert made.tolist() == [[12, 0, 0.5], [0, 0, 0], [10, 1, 0.5], [12, 0, 0.5], [0, 0, 0]]
    assert [request[1]["input"] for request in server.requests] == [["Likes crime.", "Hates war."]]
