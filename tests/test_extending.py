"""docs/extending.md: its examples, installed as a package outside the repository, keep the contracts and run from a recipe."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from lifelora.cli import main
from lifelora.kinds import COUPLINGS, MODELS, SELECTORS, SOURCES, VECTORS
from lifelora.testing import check_all, couplings, models, selectors, sources, vectors
from lifelora.testing.world import two_tribes
from plugin_world import install
from small_run import SMALL

PAGE = Path(__file__).parents[1] / "docs/extending.md"
BLOCKS = {
    language: re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    for language in ("python", "toml")
}
EXAMPLES = [block for block in BLOCKS["python"] if re.search(r"^class ", block, re.MULTILINE)]
(RECIPE,) = [block for block in BLOCKS["toml"] if block.startswith("name")]
ENTRY_POINTS = {
    "couplings": "tilt = shopkit:Tilt",
    "models": "one-layer = shopkit:OneLayer",
    "selectors": "spread = shopkit:Spread",
    "sources": "triples = shopkit:Triples",
    "vectors": "letters = shopkit:Letters",
}
SETTINGS = [
    *SMALL,
    "conventional.plain.training.epochs=1",
    "systems.tilted.train_samples=24",
    "systems.tilted.validation_samples=24",
    "systems.tilted.training.epochs=1",
]


@pytest.fixture
def shopkit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(tmp_path / "site", monkeypatch, "shopkit", "\n".join(EXAMPLES), **ENTRY_POINTS)
    return tmp_path


def test_each_example_is_short_and_keeps_the_contract_of_its_role(shopkit: Path):
    assert len(EXAMPLES) == 5
    data = two_tribes(shopkit / "tribes")
    (shopkit / "log.txt").write_text("\n".join(f"u{u} i{(u * 3 + e) % 9} {1 + (u + e) % 5}" for u in range(6) for e in range(7)))
    check_all(couplings.CHECKS, couplings.Case(COUPLINGS.find("tilt")(rank=4)))
    small = {"embedding": 8, "hidden": 16, "init_std": 0.3, "dropout": 0.0}
    check_all(models.CHECKS, models.Case(MODELS.find("one-layer")(**small), data))
    check_all(selectors.CHECKS, selectors.Case(SELECTORS.find("spread")(k=4), data))
    check_all(sources.CHECKS, sources.Case(SOURCES.find("triples")(path=str(shopkit / "log.txt"))))
    check_all(vectors.CHECKS, vectors.Case(VECTORS.find("letters")(), data))


def test_a_recipe_runs_with_them_and_another_version_makes_their_stages_anew(
    shopkit: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (shopkit / "plugged.toml").write_text(RECIPE)
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    run = ["run", str(shopkit / "plugged.toml"), "--out", str(shopkit / "out"), "--quiet", "--device", "cpu", *settings]

    def keys() -> dict[str, str]:
        found = sorted((shopkit / "out").rglob("manifest.json"))
        return {path.parent.relative_to(shopkit / "out").as_posix(): json.loads(path.read_text())["key"] for path in found}

    assert main(run) == 0, capsys.readouterr().err
    first = keys()
    scores = np.load(next((shopkit / "out/5-scores/tilted").glob("*.npy")))
    assert np.isfinite(scores).all()
    kept = (shopkit / "out/recipe.toml").read_text()
    assert 'kind = "shopkit:Tilt"' in kept
    assert 'kind = "spread"' in kept
    assert main(["show", str(shopkit / "out")]) == 0
    assert "5 behaviours spread over the past" in (shopkit / "out/6-report/report.html").read_text()
    assert main(run) == 0
    assert keys() == first

    install(shopkit / "site", monkeypatch, "shopkit", "\n".join(EXAMPLES), version="1.1", **ENTRY_POINTS)
    assert main(run) == 0, capsys.readouterr().err
    changed = {stage for stage, key in keys().items() if key != first[stage]}
    assert {stage for stage in first if stage not in changed} == {"1-data", "2-backbone"}
    manifest = json.loads((shopkit / "out/4-systems/tilted/manifest.json").read_text())
    assert manifest["config"]["plugins"] == {"shopkit-dist": "1.1"}
