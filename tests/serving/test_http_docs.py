"""docs/service.md is true: its commands are answered, its files are read; and so are the Dockerfile and compose.yaml."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml
from http_world import serving

from lifelora.commands import parser
from lifelora.serving.app.keys import opened
from lifelora.serving.app.limits import Limits
from lifelora.serving.app.strict import read
from lifelora.serving.store.place import Place

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/service.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_every_curl_of_the_document_is_answered(plain: Path, tmp_path: Path):
    lines = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines() if line.startswith("curl")]
    assert len(lines) == 5
    with serving(plain, tmp_path / "events.db") as client:
        for line in lines:
            words = shlex.split(line)
            address = next(word for word in words if word.startswith("http")).removeprefix("http://127.0.0.1:8000")
            body = words[words.index("-d") + 1] if "-d" in words else None
            header = dict([words[words.index("-H") + 1].split(": ")]) if "-H" in words else {}
            came = client.request("POST" if body else "GET", address, content=body, headers=header)
            assert came.status_code == 200, (line, came.text)
            if "/v1/events" in address:
                assert came.json()["used"] == 1
        assert came.json()["events"][-1]["item"] == "b00012"


def test_the_table_names_every_endpoint(plain: Path, tmp_path: Path):
    with serving(plain, tmp_path / "events.db") as client:
        paths = client.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        name = re.sub(r"\{(\w+)\S*?\}", r"{\1}", path)
        for method in methods:
            assert f"`{method.upper()} {name}`" in TEXT or f"`{name}`" in TEXT, (method, name)


def test_the_files_of_the_document_are_read(tmp_path: Path):
    keys, limits = (block for _, block in BLOCKS if block.startswith(("[keys", "[limits]")))
    (tmp_path / "keys.toml").write_text(keys.replace("…", "0" * 64) + limits)
    found, read_limits = opened(tmp_path / "keys.toml")
    assert set(found.named) == {"shop", "office"}
    assert read_limits == Limits()  # those that are written are the defaults
    assert found.find("Bearer test")  # the digest that is shown is that of 'test'
    assert set(tomllib.loads(limits)["limits"]) | {"rate"} == set(Limits.model_fields)
    (gorse,) = [tomllib.loads(block) for _, block in BLOCKS if block.startswith("[recommend")]
    query = gorse["recommend"]["ranker"]["query_template"].replace("{{ user.UserId }}", "u00007")
    assert read(query.encode()) == {"user": "u00007"}


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml"])
def test_what_a_container_runs_is_a_command(name: str):
    """Docker is not here: what it would run is parsed, images are of one version, and no secret is in the file."""
    text = (ROOT / name).read_text()
    if name == "Dockerfile":
        (image,) = re.findall(r"^FROM (\S+)$", text, re.MULTILINE)
        (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
        words = json.loads(command)
        assert re.search(r"^USER (?!root)", text, re.MULTILINE)
    else:
        whole = yaml.safe_load(text)
        image = whole["services"]["database"]["image"]
        words = whole["services"]["lifelora"]["command"]
        for told in whole["services"].values():
            for variable, value in told["environment"].items():
                assert "PASSWORD" not in variable or re.fullmatch(r"\$\{\w+:\?[^}]*\}", value)
        assert whole["services"]["lifelora"]["ports"] == ["127.0.0.1:8000:8000"]
        assert set(whole["secrets"]) == set(whole["services"]["lifelora"]["secrets"])
        assert {one.partition(":")[0] for one in whole["services"]["database"]["volumes"]} == set(whole["volumes"])
    assert re.fullmatch(r"[\w/]+:\d+\.\d+[\w.-]*", image)
    arguments = parser().parse_args(words)
    assert arguments.command == "serve"
    assert str(arguments.keys) == "/run/secrets/keys.toml"
    assert Place.of(arguments.store).url.password is None
    assert not re.search(r"(password|key|secret)\s*[=:]\s*['\"]?[A-Za-z0-9+/_-]{12,}", text, re.IGNORECASE)
