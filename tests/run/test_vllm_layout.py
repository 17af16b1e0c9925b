"""Adapters of many users for vLLM, out of a run whose users have the strangest ids, and the requests that ask with them.

vLLM itself is not here: what its endpoint promises is computed with PEFT."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lifelora.artefacts import read_json
from lifelora.cli import main
from lifelora.errors import ConfigError
from lifelora.llm.backbone import Pretrained
from lifelora.lora.collection import INDEX, Collection
from lifelora.lora.export import CONFIG, TENSORS
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.cohort import cohort
from lifelora.run.generative_scoring import GenerativeScoring
from lifelora.run.vllm import Plan
from run_world import TRAINING, VALUES, show

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

DOCUMENT = Path(__file__).parents[2] / "docs/vllm.md"
USERS = ["a/b", "..", "Ann@home", "ann@HOME", "x" * 300, "é~ \U0001f600", "%41", "A", "\x1b[31m", "u9", "u10", "nul\0l"]
SMALL = {"behaviours": {"kind": "most-recent", "k": 3}, "train_samples": 16, "validation_samples": 8, "training": TRAINING}
SYSTEM = SMALL | {"dropout": 0.0, "representation": {"model": "sasrec"}}
SYSTEMS = {
    "lora": SMALL | {"coupling": {"kind": "identity", "rank": 2}},
    "personal": SYSTEM | {"coupling": {"kind": "full", "rank": 2}},
    "outputs": SYSTEM | {"coupling": {"kind": "meta", "rank": 2, "loras": 2, "merge": "outputs"}},
    "similar": SYSTEM | {"coupling": {"kind": "hydra", "rank": 2, "heads": 2}, "behaviours": {"kind": "most-similar", "k": 3}},
    "logit": SYSTEM | {"coupling": {"kind": "full", "rank": 2}, "loss": "yes"},
    "targeted": SYSTEM | {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "din"}},
}
SASREC = {
    "model": {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "heads": 1, "history_length": 6},
    "training": TRAINING,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a log that is written here; the n-th user has 12 + n events."""
    place = tmp_path_factory.mktemp("world")
    rows = [(user, n, event) for n, user in enumerate(USERS) for event in range(12 + n)]
    log = {
        "user": [user for user, _, _ in rows],
        "item": [f"i{(n * 7 + event * 3) % 40}" for _, n, event in rows],
        "rating": [float((n * event + n + event) % 5 + 1) for _, n, event in rows],
        "time": [1_700_000_000 + 86_400 * event + n for _, n, event in rows],
    }
    pq.write_table(pa.table(log), place / "log.parquet")
    pq.write_table(
        pa.table({"item": [f"i{n}" for n in range(40)], "title": [f"Kettle {n}" for n in range(40)]}), place / "goods.parquet"
    )
    source = {"kind": "tables", "interactions": str(place / "log.parquet"), "catalogue": str(place / "goods.parquet")}
    source["columns"] = {name: name for name in log}
    values = VALUES | {
        "data": {"source": source, "rules": {"min_history": 3, "label_above": 3}},
        "systems": SYSTEMS,
        "conventional": VALUES["conventional"] | {"sasrec": SASREC},
        "evaluation": {"test_samples": 12, "resamples": 100},
    }
    Run(parse(values, "the tests' recipe"), place / "run", Options(device="cpu", progress=False)).all()
    return place / "run"


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return Run.open(folder, Options(device="cpu", progress=False))


@pytest.fixture(scope="module")
def backbone(run: Run) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(run.context.base_model).eval()


def exported(run: Run, out: Path, system: str = "personal", users: Sequence[str] | None = USERS) -> Collection:
    return Plan.of(run, out, system=system, users=users).write().collection


def export(folder: Path, out: Path, *words: str) -> list[str]:
    return ["export", str(folder), "--layout", "vllm", "--out", str(out), "--quiet", "--device", "cpu", *words]


def endpoint(backbone: torch.nn.Module, folder: Path, body: dict[str, object]) -> list[float]:
    """What vLLM's documents say of /generative_scoring, by PEFT: softmax over the labels of what follows query + item."""
    model = PeftModel.from_pretrained(backbone, str(folder / str(body["model"]))).eval()
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([body["query"] + item])).logits[0, -1] for item in body["items"]]
    model.unload()
    return [float(torch.softmax(one[body["label_token_ids"]].double(), 0)[0]) for one in logits]


@pytest.mark.parametrize("system", ["personal", "outputs"])
def test_stock_peft_gives_the_logits_of_every_user(run: Run, backbone: torch.nn.Module, system: str, tmp_path: Path):
    made = exported(run, tmp_path, system)
    assert list(made.current) == USERS
    scorer, dataset, seen = run.scorers[system], run.context.dataset, []
    for user in USERS:
        index = int(dataset.users.inside([user])[0])
        asked = show(run, system, dataset.candidates(index, np.arange(2)))
        batch = scorer.batch(asked, np.arange(2))
        with torch.no_grad(), scorer.lm.adapters.loaded(), scorer.lm.scope(batch):
            ours = scorer.lm.logits(batch)
        place = tmp_path / made.current[user].path
        assert sorted(path.name for path in place.iterdir()) == [CONFIG, TENSORS]
        model, mask_BL = PeftModel.from_pretrained(backbone, str(place)).eval(), batch.prompts.mask_BL.long()
        with torch.no_grad():
            position_BL = (mask_BL.cumsum(1) - 1).clamp(min=0)
            theirs = model(batch.prompts.tokens_BL, attention_mask=mask_BL, position_ids=position_BL).logits[:, -1]
        model.unload()
        assert (ours - theirs).abs().max() <= 1e-5
        seen.append(ours[0])
    assert len(torch.stack(seen).unique(dim=0)) == len(USERS)


def test_the_command_says_what_it_will_take_and_how_vllm_finds_them(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "who.txt").write_text("a/b\nu9\n..\n")
    assert main(export(folder, tmp_path / "out", "--system", "personal", "--cohort", str(tmp_path / "who.txt"))) == 0
    said = capsys.readouterr()
    told = json.loads((tmp_path / "out" / INDEX).read_text())
    assert [one["user"] for one in told["adapters"]] == ["a/b", "u9", ".."]
    size = told["adapters"][0]["bytes"] / 1e6
    assert f"3 adapters of 'personal', rank 2, fp32: {size:,.2f} MB each, {3 * size:,.2f} MB in all" in said.err
    assert "3 adapters in" in said.out
    assert "3 of them written now" in said.out
    assert (
        f"vllm serve {read_json(tmp_path / 'out' / told['adapters'][0]['path'] / CONFIG)['base_model_name_or_path']}" in said.out
    )
    assert "--enable-lora --max-lora-rank 8 \\\n  --max-loras 3 --max-cpu-loras 3" in said.out
    assert f"VLLM_LORA_RESOLVER_CACHE_DIR={tmp_path / 'out'} " in said.out
    assert main(export(folder, tmp_path / "out", "--system", "personal", "--cohort", "all")) == 0
    assert f"{len(USERS) - 3} of them written now" in capsys.readouterr().out


def test_estimate_writes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(export(folder, tmp_path / "out", "--system", "personal", "--cohort", "5", "--estimate")) == 0
    said = capsys.readouterr().out
    assert "5 adapters of 'personal'" in said
    assert "Making them takes about" in said
    assert not (tmp_path / "out").exists()


def test_a_cohort_is_all_or_the_users_with_the_most_events(run: Run):
    """The n-th of ``USERS`` has 12 + n events, and the log knows them in the order of its rows."""
    dataset = run.context.dataset
    assert cohort(dataset, "all") == dataset.users.outside(range(len(USERS)))
    assert sorted(cohort(dataset, "all")) == sorted(USERS)
    assert cohort(dataset, "3") == USERS[:-4:-1]
    for wrong in ("0", "13", "9" * 30):
        with pytest.raises(ConfigError, match=r"--cohort \d+ asks for so many users.* give 1 to 12, 'all', or a file \(\./"):
            cohort(dataset, wrong)


def test_a_new_run_of_it_writes_what_changed_and_prune_removes_the_old(
    run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    first = exported(run, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")}
    assert Plan.of(run, tmp_path / "out", system="personal", users=USERS).missing == 0
    assert Plan.of(run, tmp_path / "out", system="personal", users=USERS).write().written == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.safetensors")} == before
    layer = run.scorers["personal"].lm.adapters.layers[0][1]
    with torch.no_grad():
        layer.B_OQ.mul_(2)  # as after another training
    try:
        plan = Plan.of(run, tmp_path / "out", system="personal", users=USERS[:2])
        assert plan.missing == 2
        again = plan.write()
    finally:
        with torch.no_grad():
            layer.B_OQ.div_(2)
    assert again.written == 2
    assert "2 older ones" in str(again)
    old = [first.current[user].name for user in USERS[:2]]
    assert list(again.collection.old) == old
    assert all((tmp_path / "out" / name).is_dir() for name in old)
    assert again.prune() == (2, [])
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {
        again.collection.current[user].name for user in USERS
    }
    assert main(export(folder, tmp_path / "out", "--system", "personal", "--cohort", "all", "--prune")) == 0
    assert "2 older adapters were removed" in capsys.readouterr().err
    assert {one.name for one in Collection.read(tmp_path / "out").current.values()} == {
        one.name for one in first.current.values()
    }


KILLED = """
import os, signal, sys
import lifelora.lora.collection as module
from lifelora.cli import main

real, count = module.Collection.add, iter(range(9))

def until(self, *given):
    if next(count) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *given)

module.Collection.add = until
main(sys.argv[1:])
"""


def test_it_goes_on_after_a_kill(run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = export(folder, tmp_path / "out", "--system", "personal", "--cohort", "all")
    assert subprocess.run([sys.executable, "-c", KILLED, *words], check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out" / INDEX).exists()
    assert len([path for path in (tmp_path / "out").iterdir() if path.is_dir()]) == 5
    assert main(words) == 0
    assert f"{len(USERS) - 5} of them written now" in capsys.readouterr().out
    assert (
        Collection.read(tmp_path / "out").current
        == exported(run, tmp_path / "whole", users=cohort(run.context.dataset, "all")).current
    )


def test_too_small_a_disk_is_refused_before_anything_is_written(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    one = Plan.of(run, tmp_path / "out", system="personal", users=USERS[:1])
    one.refuse()
    room = one.needed * 3 - 1
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=room))
    with pytest.raises(ConfigError, match=r"3 adapters of .* room for 2\. Nothing was written.*--dtype bf16.*smaller --cohort"):
        Plan.of(run, tmp_path / "out", system="personal", users=USERS[:3]).refuse()
    assert main(export(folder, tmp_path / "out", "--system", "personal", "--cohort", "3")) == 1
    assert "Nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    exported(run, tmp_path / "out", users=USERS[:2])
    Plan.of(run, tmp_path / "out", system="personal", users=USERS[:3]).refuse()  # two of them are there


def test_half_precision_is_half_the_bytes_and_another_name(run: Run, tmp_path: Path):
    whole, half = (Plan.of(run, tmp_path, system="personal", users=["u9"], dtype=dtype) for dtype in ("fp32", "bf16"))
    assert whole.write().collection.current["u9"].name != half.write().collection.current["u9"].name
    header = 1000
    assert abs(half.size - header - (whole.size - header) / 2) < header


def test_a_system_for_all_users_has_one_folder(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    made = exported(run, tmp_path, "lora", None)
    ((user, entry),) = made.current.items()
    assert user == "lora"
    assert entry.name.startswith("lora@")
    assert Plan.of(run, tmp_path, system="lora", users=None).missing == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--layout", "vllm", "--system", "targeted", "--user", "u9"],
            "depends on the target: a user has another adapter for every",
        ),
        (["--layout", "vllm", "--system", "targeted", "--user", "u9", "--item", "i1"], "--layout vllm takes no --item"),
        (["--layout", "vllm", "--system", "lora", "--cohort", "2"], "is the same for all users; remove --user and --cohort"),
        (["--layout", "vllm", "--system", "personal"], "has an adapter for each user; give --user or --cohort"),
        (["--system", "lora", "--estimate"], "--estimate belongs to --layout vllm"),
        (["--system", "lora", "--prune"], "--prune belongs to --layout vllm"),
        (["--system", "lora", "--dtype", "bf16"], "--dtype belongs to --layout vllm"),
    ],
)
def test_what_does_not_go_together(
    folder: Path, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["export", str(folder), "--out", str(tmp_path / "out"), "--quiet", "--device", "cpu", *words]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_that_was_made_lighter_is_not_what_vllm_serves(run: Run, tmp_path: Path):
    def lighter(**how: object) -> Run:
        backbone = Pretrained(path=run.context.base_model, **how)
        return Run(run.recipe.model_copy(update={"backbone": backbone}), run.folder, run.options)

    with pytest.raises(ConfigError, match=r"the first 1 layers alone \(backbone\.layers\), and vLLM serves all of /"):
        Plan.of(lighter(layers=1), tmp_path, system="personal", users=USERS)
    plan = Plan.of(run, tmp_path, system="personal", users=USERS)
    assert "differ a little" not in str(plan)
    plan = replace(plan, exporter=replace(plan.exporter, run=lighter(quantization="int8")))
    assert "They were trained on weights in int8, and vLLM serves those of /" in str(plan)


@pytest.mark.parametrize("system", ["personal", "outputs", "similar"])
def test_the_request_asks_for_our_own_probabilities(run: Run, backbone: torch.nn.Module, system: str, tmp_path: Path):
    """P(yes) of the run, against what the endpoint makes of the request and the exported folder; retrieval by target, too."""
    exported(run, tmp_path, system, USERS[:3])
    scoring, items = GenerativeScoring.of(run, tmp_path), ["i1", "i17", "i30"]
    for user in USERS[:3]:
        body = scoring.body(user, items)
        assert body.keys() == {"model", "query", "items", "label_token_ids", "apply_softmax"}
        assert all(body["items"])
        requests = run.task.now(int(run.context.dataset.users.inside([user])[0]), run.context.dataset.items.inside(items))
        ours = run.scorers[system].score(requests)[:, 0]
        np.testing.assert_allclose(endpoint(backbone, tmp_path, body), ours, rtol=1e-5)


def test_the_tokens_are_those_of_the_printed_prompt(run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    exported(run, tmp_path, "personal", ["a/b"])
    words = ["prompt", str(folder), "--user", "a/b"]
    assert main([*words, "--vllm", str(tmp_path), "--items", "i1", "i2", "--max-model-len", "4096"]) == 0
    body = json.loads(capsys.readouterr().out)
    for item, rest in zip(("i1", "i2"), body["items"], strict=True):
        assert main([*words, "--system", "personal", "--item", item, "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert body["query"] + rest == [token for piece in told["texts"]["prompt"]["pieces"] for token in piece["ids"]]
        assert body["label_token_ids"] == told["answer_ids"]
    assert body["items"][0][0] != body["items"][1][0]  # all that is shared is in the query
    assert body["model"] == Collection.read(tmp_path).current["a/b"].name
    (example,) = re.findall(r"^```json\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert {name: type(value) for name, value in json.loads(example).items()} == {name: type(v) for name, v in body.items()}


def test_a_prompt_that_vllm_would_cut_is_refused_with_its_length(run: Run, tmp_path: Path):
    exported(run, tmp_path, "personal", ["a/b"])
    scoring = GenerativeScoring.of(run, tmp_path)
    body = scoring.body("a/b", ["i1", "i2"])
    lengths = [len(body["query"]) + len(item) for item in body["items"]]
    assert scoring.body("a/b", ["i1", "i2"], max(lengths) + 1) == body
    with pytest.raises(ConfigError) as caught:
        scoring.body("a/b", ["i1", "i2"], min(lengths))
    assert f"2 of 2 prompts have more tokens than the {min(lengths) - 1} for which" in str(caught.value)
    assert f"i1 has {lengths[0]}, i2 has {lengths[1]}" in str(caught.value)
    assert f"--max-model-len {max(lengths) + 1} or more, or lower systems.personal.max_tokens" in str(caught.value)


def test_requests_that_cannot_be_made(run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for system in ("personal", "logit"):
        exported(run, tmp_path / system, system, ["a/b"])
    scoring = GenerativeScoring.of(run, tmp_path / "personal")
    for user, items, message in (
        ("u9", ["i1"], "has no adapter of user 'u9'; export it, too"),
        ("a/b", [], "no item is named"),
        ("a/b", ["i1", "i1"], "an item is named twice"),
    ):
        with pytest.raises(ConfigError, match=message):
            scoring.body(user, items)
    with pytest.raises(ConfigError, match=r"systems\.logit\.loss = 'yes': the endpoint weighs yes against no"):
        GenerativeScoring.of(run, tmp_path / "logit")
    index = tmp_path / "personal" / INDEX
    index.write_text(index.read_text().replace('"system": "personal"', '"system": "other"'))
    with pytest.raises(ConfigError, match="of system 'other' .* not of this run; give the run that they were exported from"):
        GenerativeScoring.of(run, tmp_path / "personal")
    for words, message in (
        (["--items", "i1"], "--items and --max-model-len belong to --vllm"),
        (["--vllm", str(tmp_path), "--user", "a/b"], "--vllm needs --user and --items"),
        (["--vllm", str(tmp_path), "--user", "a/b", "--items", "i1", "--item", "i2"], "remove --item, --system"),
    ):
        assert main(["prompt", str(folder), *words]) == 1
        assert message in capsys.readouterr().err
    assert main(["prompt", "demo", "--vllm", str(tmp_path), "--user", "a/b", "--items", "i1"]) == 1
    assert "--vllm needs the folder of a run, and 'demo' is none" in capsys.readouterr().err
