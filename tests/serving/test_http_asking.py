"""Scores, recommendations and reranking over HTTP: the same as offline, and in the forms that others call."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from http_world import NOW, event, opened, serving

from lifelora.run.recommend import recommend
from lifelora.run.scorers.base import Requests


@pytest.fixture(scope="module")
def client(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(shop, tmp_path_factory.mktemp("store") / "events.db") as client:
        yield client


@pytest.mark.parametrize("system", ["popular", "din", "personal"])
def test_scores_are_those_of_offline_evaluation(client: TestClient, shop: Path, system: str):
    """Asked offline as one sample each at the user's end, in a process state of its own."""
    run = opened(shop)
    dataset = run.context.dataset
    items = dataset.items.outside(np.arange(5))
    for user in dataset.users.outside(np.arange(3)):
        came = client.post("/v1/score", json={"user": user, "candidates": items, "system": system}).json()
        number = int(dataset.users.inside([user])[0])
        requests: Requests = run.task.now(number, np.arange(5))
        offline = run.scorers[system].score(requests).ravel()
        np.testing.assert_allclose([one["score"] for one in came["items"]], offline, rtol=1e-5, atol=1e-6)
        assert [one["item"] for one in came["items"]] == items
        assert came["system"] == came["asked"] == system
        assert not came["fallback"]
    assert came["run"]["recipe"] == "shop"
    twice = client.post("/v1/score", json={"user": user, "candidates": [items[1]] * 2, "system": system, "reasons": False}).json()
    np.testing.assert_allclose([one["score"] for one in twice["items"]], offline[[1, 1]], rtol=1e-5, atol=1e-6)


def test_recommendations_are_those_of_the_command(client: TestClient, shop: Path):
    came = client.get("/v1/recommend/u00003", params={"n": 4, "system": "din"}).json()
    offline = recommend(opened(shop), "u00003", None, 4, "din")
    assert [one["item"] for one in came["items"]] == [one.item for one in offline.items]
    first = came["items"][0]["item"]
    without = client.get("/v1/recommend/u00003", params={"n": 4, "system": "din", "exclude": [first, "no such item"]}).json()
    assert first not in [one["item"] for one in without["items"]]
    assert [one["item"] for one in without["items"]][:3] == [one["item"] for one in came["items"]][1:]


def test_an_unknown_user_gets_the_most_popular_or_404(client: TestClient):
    came = client.get("/v1/recommend/nobody-yet").json()
    assert came["fallback"]
    assert came["why"] == "the user is unknown"
    refused = client.get("/v1/recommend/nobody-yet", params={"cold": "refuse"})
    assert refused.status_code == 404
    assert "u0" not in refused.text  # no other user's id


def test_a_candidate_that_is_no_item_is_named(client: TestClient):
    refused = client.post("/v1/score", json={"user": "u00001", "candidates": ["b00001", "nothing", "b00002", "nil"]})
    assert refused.status_code == 422
    assert [(one["field"], one["came"]) for one in refused.json()["errors"]] == [
        ("candidates[1]", "nothing"),
        ("candidates[3]", "nil"),
    ]


def test_a_system_that_is_none_is_answered_with_those_that_are(client: TestClient):
    refused = client.post("/v1/score", json={"user": "u00001", "candidates": ["b00001"], "system": "best"})
    assert refused.status_code == 422
    assert "it has popular, din, personal" in refused.json()["detail"]


def test_gorse_is_answered_as_it_reads(client: TestClient):
    """The bytes and headers of gorse's client (common/reranker/client.go), and its structs' fields in the answer."""
    documents = ["b00004", "no item of ours", "b00009", "b00001"]
    body = {"model": "lifelora", "query": '{"user":"u00002"}', "documents": documents}
    headers = {
        "User-Agent": "Go-http-client/1.1",
        "Authorization": "Bearer any",
        "Content-Type": "application/json",
        "Accept-Encoding": "gzip",
    }
    came = client.post("/v1/rerank", content=json.dumps(body, separators=(",", ":")).encode(), headers=headers)
    assert came.status_code == 200
    answer = came.json()
    assert isinstance(answer["model"], str)
    assert isinstance(answer["usage"]["total_tokens"], int)
    results = answer["results"]
    assert sorted(one["index"] for one in results) == [0, 1, 2, 3]
    scored = client.post("/v1/score", json={"user": "u00002", "candidates": ["b00004", "b00009", "b00001"]}).json()
    told = {one["item"]: one["score"] for one in scored["items"]}
    assert {documents[one["index"]]: one["relevance_score"] for one in results} == told | {"no item of ours": 0.0}
    assert [one["relevance_score"] for one in results] == sorted((one["relevance_score"] for one in results), reverse=True)
    assert results[-1]["index"] == 1  # what is unknown stands last


def test_reranking_takes_all_that_jina_allows(client: TestClient):
    documents = [{"text": "b00004"}, "b00009"]
    body = {"query": "u00002", "documents": documents, "top_n": 1, "return_documents": True, "model": "din"}
    answer = client.post("/v1/rerank", json=body | {"truncation": True}).json()
    assert answer["model"] == "din"
    (best,) = answer["results"]
    assert best["document"] == {"text": ["b00004", "b00009"][best["index"]]}
    assert client.post("/v1/rerank", json={"query": "u00002", "documents": []}).json()["results"] == []
    alone = client.post("/v1/rerank", json={"query": "u00002", "documents": ["x", "y"]}).json()
    assert [one["relevance_score"] for one in alone["results"]] == [0.0, 0.0]
    for wrong, field in (({"query": '{"user":7}'}, "query"), ({"documents": [{"title": "x"}]}, "documents[0]")):
        refused = client.post("/v1/rerank", json=body | wrong)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == field


def test_an_event_changes_what_comes_next(client: TestClient):
    """After it the answer's own history ends with it, and a recommendation does not hold it."""
    first = client.get("/v1/recommend/u00005", params={"system": "din", "n": 1}).json()["items"][0]["item"]
    assert client.post("/v1/events", json={"events": [event("u00005", first)]}).json()["used"] == 1
    again = client.get("/v1/recommend/u00005", params={"system": "din", "n": 80}).json()
    assert first not in [one["item"] for one in again["items"]]
    shown = client.post("/v1/score", json={"user": "u00005", "candidates": ["b00001"], "system": "personal"}).json()["shown"]
    assert (shown[-1]["item"], shown[-1]["time"]) == (first, NOW)


def test_a_deadline_that_cannot_be_kept_is_said(client: TestClient):
    asked = {"user": "u00001", "candidates": ["b00001"], "system": "personal"}
    late = client.post("/v1/score", json=asked, headers={"Lifelora-Deadline": "0.000000001"})
    assert late.status_code == 504
    assert late.headers["content-type"] == "application/problem+json"
    for wrong in ("-1", "nan", "soon", "1e400", "601"):
        refused = client.post("/v1/score", json=asked, headers={"Lifelora-Deadline": wrong})
        assert refused.status_code == 422, wrong
        assert refused.json()["errors"][0]["field"] == "Lifelora-Deadline (header)"
