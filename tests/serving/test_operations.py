"""docs/operations.md is true: what it watches is there under these names, and what it counts in bytes is so many."""

import re
from pathlib import Path

import numpy as np
import yaml
from http_world import event, serving

from lifelora.data.log import EVENT_COLUMNS
from lifelora.serving.engine import EngineOptions

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/operations.md").read_text()


def test_every_rule_asks_for_a_number_that_is_there(plain: Path, tmp_path: Path):
    with serving(plain, tmp_path / "events.db") as client:
        assert client.get("/v1/recommend/u00001", params={"n": 3}).status_code == 200
        assert (
            client.post("/v1/events", json={"events": [event("u00001", "b00001"), event("u00002", "no such")]}).status_code == 200
        )
        there = client.get("/metrics").text
    scraped, alerts = (yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
    assert scraped["scrape_configs"][0]["job_name"] == "lifelora"
    rules = alerts["groups"][0]["rules"]
    assert len(rules) == 6
    samples = re.findall(r"^(lifelora_\w+)(?:\{(.*?)\})? [0-9.e+-]+$", there, re.MULTILINE)
    for rule in rules:
        for name, labels in re.findall(r"(lifelora_\w+|up)(?:\{(.*?)\})?(?=[\[ )])", rule["expr"]):
            if name != "up":
                found = [told for one, told in samples if one == name]
                assert found, name
                for label, sign, value in re.findall(r'(\w+)(=~?)"(.*?)"', labels):
                    if sign == "=" and value != "true":  # a fallback has not happened here; its label has
                        assert any(f'{label}="{value}"' in told for told in found), (name, label, value)
                    else:
                        assert any(f'{label}="' in told for told in found), (name, label)
    for name in re.findall(r"`(lifelora_\w+)`", TEXT):
        assert re.search(rf"^{name}(_count)?[{{ ]", there, re.MULTILINE), name


def test_the_bytes_are_those_of_the_code():
    assert f"| {sum(np.dtype(kind).itemsize for kind in EVENT_COLUMNS.values())} bytes an event" in TEXT
    assert EngineOptions().warm_bytes == 1 << 30
    nano, smol = (2 * layers * heads * width * 4 for layers, heads, width in ((2, 2, 32), (30, 3, 64)))
    assert f"takes {400 * nano / 1e6:.1f} MB" in TEXT
    assert f"and {400 * smol / 1e6:.0f} MB" in TEXT
    assert f"{(1 << 30) // (400 * smol)} users stay warm" in TEXT


def test_every_line_of_the_log_to_look_for_is_written_somewhere():
    source = "".join(path.read_text() for path in (ROOT / "src/lifelora/serving").rglob("*.py"))
    lines = re.findall(r"`([a-z ]+)`", TEXT.partition("Lines to look for:")[2])
    assert len(lines) == 8
    assert [line for line in lines if not re.search(rf'\b_?(tell|told)\(\s*"{line}"', source)] == []
