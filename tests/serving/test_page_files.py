"""The page as it is sent: from this package alone, under a strict policy; and what it asks, with the key that it needs."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from http_world import NOW, READ, keys, opened, serving

from lifelora.run.recommend import recommend
from lifelora.run.recommend.cold import newcomer
from lifelora.serving.app.routes.page import FILES, ONLY_OURS

NAMESPACE = "http://www.w3.org/2000/svg"


@pytest.fixture(scope="module")
def client(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(shop, tmp_path_factory.mktemp("store") / "events.db") as client:
        yield client


def test_the_page_comes_under_a_policy_that_lets_nothing_else_run(client: TestClient):
    came = client.get("/")
    assert came.status_code == 200
    assert came.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(one.split(" ", 1) for one in came.headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert came.headers["x-content-type-options"] == "nosniff"
    for name in FILES:
        came = client.get(f"/page/{name}")
        assert came.status_code == 200
        assert "script-src 'self';" in came.headers["content-security-policy"]
        assert (came.headers["content-security-policy"] == ONLY_OURS) == (name != "report.html")
    for name in ("nowhere.js", "%2e%2e%2fapp.py", "..%2f__init__.py"):
        assert client.get(f"/page/{name}").status_code == 404


def test_no_file_names_another_host_or_takes_a_text_for_html():
    assert {"index.html", "page.js", "page.css"} <= set(FILES)
    for name, content in FILES.items():
        text = content.decode().replace(NAMESPACE, "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage|cookie", text), name
        if name.endswith(".html"):
            assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=", text), name
            for file in re.findall(r'(?:src|href)="/page/([^"]+)"', text):
                assert file in FILES
        for file in re.findall(r'from "\./([^"]+)"', text):
            assert file in FILES


def test_what_a_page_chooses_from(client: TestClient):
    facts = client.get("/v1/run").json()
    dataset = client.app.state.service.live.engine.run.context.dataset  # type: ignore[attr-defined]
    assert [one["name"] for one in facts["systems"]] == ["popular", "din", "personal"]
    assert facts["best"] in {"popular", "din", "personal"}
    assert [one["value"] for one in facts["ratings"]] == list(dataset.rating_levels)
    assert (facts["users"], facts["items"], facts["report"]) == (24, 80, True)
    assert client.get("/v1/users?n=3").json()["users"] == dataset.users.outside([0, 11, 23])
    assert len(client.get("/v1/users?n=50").json()["users"]) == 24
    assert client.get("/v1/users?n=51").status_code == 422
    assert client.get("/v1/users?q=u0001&n=4").json()["users"] == ["u00010", "u00011", "u00012", "u00013"]
    assert client.get("/v1/users?q=U00010").json()["users"] == ["u00010"]
    assert client.get("/v1/users?q=9&n=50").json()["users"] == ["u00009", "u00019"]  # a part that does not begin them
    assert client.get("/v1/users?q=.").json()["users"] == []
    assert client.get("/v1/users?q=").status_code == 422
    title, item = dataset.titles[7], dataset.items.outside([7])[0]
    word = title.split()[-1].upper()
    there = [number for number, one in enumerate(dataset.titles) if word.casefold() in one.casefold()]
    found = client.get("/v1/items", params={"q": word, "n": 50}).json()["items"]
    assert {one["item"] for one in found} == set(dataset.items.outside(there))
    assert client.get("/v1/items", params={"q": item}).json()["items"][0] == {"item": item, "title": title}
    assert client.get("/v1/items", params={"q": title}).json()["items"][0]["title"] == title
    assert len(client.get("/v1/items?q=e&n=2").json()["items"]) == 2
    assert client.get("/v1/items?q=.*").json()["items"] == []  # words, and no pattern
    assert client.get("/v1/items?q=").status_code == 422


def test_a_forgotten_user_is_not_offered(plain: Path, tmp_path: Path):
    with serving(plain, tmp_path / "events.db") as client:
        first = client.get("/v1/users?n=50").json()["users"][0]
        assert client.get(f"/v1/users?q={first}").json()["users"] == [first]
        assert client.delete(f"/v1/users/{first}").status_code == 204
        for query in ("n=50", f"q={first}", "q=u&n=50"):
            assert first not in client.get(f"/v1/users?{query}").json()["users"]
        offered = client.get("/v1/users?n=5").json()["users"]
        assert len(set(offered)) == 5  # another in the place of the first, who was one of them before


def test_the_report_and_no_other_file_of_the_run_is_given_away_to_who_has_a_key(shop: Path, tmp_path: Path):
    with serving(shop, tmp_path / "events.db", keys()) as client:
        assert client.get("/").status_code == 200
        for address in ("/v1/run", "/v1/users", "/v1/items?q=a", "/v1/report"):
            assert client.get(address).status_code == 401
            assert client.get(address, headers=READ).status_code == 200
        came = client.get("/v1/report", headers=READ)
        assert came.content == (shop / "6-report" / "report.html").read_bytes()
        assert came.headers["content-security-policy"].startswith("default-src 'none'")
        for name in ("manifest.json", "..%2frecipe.toml", "evaluation.json"):
            assert client.get(f"/v1/report/{name}", headers=READ).status_code == 404
        body = {"history": [{"item": "b00001"}]}
        assert client.post("/v1/recommend", json=body).status_code == 401
        assert client.post("/v1/recommend", json=body, headers=READ).status_code == 200


@pytest.mark.parametrize("system", ["popular", "din", "personal"])
def test_a_history_that_is_told_is_ranked_as_the_command_ranks_it_and_not_kept(client: TestClient, shop: Path, system: str):
    """The reference: `lifelora recommend --history`, which puts a new user behind the log of a run that it opens for itself."""
    low, high = (client.get("/v1/run").json()["ratings"][place]["value"] for place in (0, -1))
    told = [("b00005", low), ("b00009", None), ("b00031", high)]
    run = opened(shop)
    user = newcomer(run.context, [item if rating is None else f"{item}:{rating:g}" for item, rating in told])
    expected = recommend(run, user, None, 6, system).items
    history = [{"item": item} | ({} if rating is None else {"rating": rating}) for item, rating in told]
    live = client.app.state.service.live.engine  # type: ignore[attr-defined]
    before, whole = live.run.context.dataset, live.state()
    first = client.get(f"/v1/recommend/u00003?system={system}").json()
    for _ in range(2):
        answer = client.post("/v1/recommend", json={"history": history, "n": 6, "system": system}).json()
        assert [one["item"] for one in answer["items"]] == [one.item for one in expected]
        assert [one["score"] for one in answer["items"]] == pytest.approx([one.score for one in expected], abs=1e-6)
    if system == "personal":
        assert [one["item"] for one in answer["shown"]] == [item for item, _ in told]
    assert live.run.context.dataset is before
    assert client.get(f"/v1/users/{answer['user']}").status_code == 404
    assert live.state()["events"] == whole["events"]
    assert client.get(f"/v1/recommend/u00003?system={system}").json() == first


def test_a_new_user_after_a_told_history_has_a_prompt_of_its_own(client: TestClient):
    """Both have the same number in the log, one after the other: what was kept warm for the first is not taken for the second."""
    system = {"system": "personal", "n": 5}
    one = client.post("/v1/recommend", json={"history": [{"item": "b00005"}, {"item": "b00009"}], **system}).json()
    event = {"user": "somebody-new", "item": "b00031", "rating": 5, "time": NOW + 9}
    assert client.post("/v1/events", json={"events": [event]}).json()["used"] == 1
    new = client.get("/v1/recommend/somebody-new", params=system).json()
    again = client.post("/v1/recommend", json={"history": [{"item": "b00031", "rating": 5}], **system}).json()
    assert [(x["item"], x["score"]) for x in new["items"]] == [(x["item"], pytest.approx(x["score"])) for x in again["items"]]
    assert [x["item"] for x in one["shown"]] == ["b00005", "b00009"]


def test_a_told_history_that_is_wrong_is_refused(client: TestClient):
    for body, field in (
        ({"history": []}, "history"),
        ({"history": [{"item": "nowhere"}]}, "history"),
        ({"history": [{"item": "b00001", "rating": 77}]}, "history[0].rating"),
        ({"history": [{"item": "b00001"}], "n": 0}, "n"),
        ({"history": [{"item": "b00001"}], "system": "none"}, None),
        ({"history": [{"item": "b00001"}] * 1001}, "history"),
    ):
        came = client.post("/v1/recommend", json=body)
        assert came.status_code == 422, came.text
        if field is not None:
            assert came.json()["errors"][0]["field"] == field
