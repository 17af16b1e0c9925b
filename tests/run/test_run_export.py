"""Adapters out of finished runs and into new ones: loaded by PEFT, refused where they do not fit, started from."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lifelora.artefacts import read_json
from lifelora.cli import main
from lifelora.errors import ConfigError, DataError
from lifelora.lora.export import CONFIG
from lifelora.lora.saved import load
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.cohort import read_cohort
from lifelora.run.export import COHORT, export
from lifelora.run.scorers.start import ADAPTER
from run_world import TRAINING, VALUES, show

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SASREC = {
    "model": {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "heads": 1, "history_length": 6},
    "training": TRAINING,
}
SYSTEM = {
    "behaviours": {"kind": "most-recent", "k": 3},
    "train_samples": 32,
    "validation_samples": 20,
    "training": TRAINING,
    "dropout": 0.0,
}
SYSTEMS = {
    "lora": SYSTEM | {"coupling": {"kind": "identity", "rank": 2}},
    "second": SYSTEM
    | {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "sasrec"}, "init_from": "lora", "train": "coupling"},
    "joint": SYSTEM
    | {"coupling": {"kind": "meta", "rank": 2, "loras": 2}, "representation": {"model": "sasrec", "train": "joint"}},
    "targeted": SYSTEM | {"coupling": {"kind": "experts", "rank": 2, "experts": 2}, "representation": {"model": "din"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with systems of each kind: plain, two-stage, joint, target-aware."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    values = VALUES | {"systems": SYSTEMS, "conventional": VALUES["conventional"] | {"sasrec": SASREC}}
    Run(parse(values, "the tests' recipe"), out, Options(device="cpu", progress=False)).all()
    return out


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return Run.open(folder, Options(device="cpu", progress=False))


def in_peft(run: Run, adapter: Path, tokens_BL: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
    """Logits at the end of each prompt, by stock transformers and stock PEFT on the run's own backbone."""
    backbone = AutoModelForCausalLM.from_pretrained(read_json(adapter / CONFIG)["base_model_name_or_path"])
    model = PeftModel.from_pretrained(backbone, str(adapter)).eval()
    position_BL = (mask_BL.long().cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        return model(input_ids=tokens_BL, attention_mask=mask_BL.long(), position_ids=position_BL).logits[:, -1]


@pytest.mark.parametrize(
    ("system", "user", "item"),
    [
        ("lora", None, None),
        ("second", "u00003", None),
        ("joint", "u00003", None),
        ("targeted", "u00003", "b00007"),
    ],
)
def test_stock_peft_gives_our_logits(run: Run, system: str, user: str | None, item: str | None, tmp_path: Path):
    """Someone's own prompts, scored by us in the run and by PEFT from the exported folder alone."""
    where = ["--user", user] if user else []
    where += ["--item", item] if item else []
    assert (
        main(
            [
                "export",
                str(run.stages.folder),
                "--system",
                system,
                *where,
                "--out",
                str(tmp_path / "out"),
                "--quiet",
                "--device",
                "cpu",
            ]
        )
        == 0
    )
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    dataset = run.context.dataset
    user_index = int(dataset.users.inside([user or "u00003"])[0])
    items = dataset.items.inside([item]) if item else np.arange(3)
    asked = show(run, system, dataset.candidates(user_index, items.astype(np.int64)))
    scorer = run.scorers[system]
    batch = scorer.batch(asked, np.arange(len(items)))
    with torch.no_grad(), scorer.lm.adapters.loaded(), scorer.lm.scope(batch):
        ours = scorer.lm.logits(batch)
    theirs = in_peft(run, tmp_path / "out", batch.prompts.tokens_BL, batch.prompts.mask_BL)
    assert (ours - theirs).abs().max() <= 1e-5


def test_a_cohort_has_a_folder_each(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "who.txt").write_text("u00003\n\nu00005\n u00001 \n")
    words = [
        "export",
        str(run.stages.folder),
        "--system",
        "second",
        "--cohort",
        str(tmp_path / "who.txt"),
        "--quiet",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    assert "3 adapters in" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / COHORT).read_text())
    assert list(told) == ["u00003", "u00005", "u00001"]
    weights = [(tmp_path / "out" / folder / "adapter_model.safetensors").read_bytes() for folder in told.values()]
    assert len(set(weights)) == 3
    assert main(words) == 1  # never over what is there
    assert "already holds adapters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"system": "din"}, "no language-model system 'din'; it has lora, second, joint, targeted"),
        ({"system": "second"}, r"has an adapter for each user; give --user or --cohort"),
        ({"system": "lora", "users": ["u00003"]}, "is the same for all users; remove --user"),
        ({"system": "targeted", "users": ["u00003"]}, "depends on the target as well.*--item"),
        ({"system": "second", "users": ["u00003"], "item": "b00001"}, "one adapter for all items; remove --item"),
    ],
)
def test_what_does_not_fit(run: Run, options: dict[str, object], message: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=message):
        export(run, tmp_path / "out", **{"system": None, "users": None, "item": None} | options)
    assert not (tmp_path / "out").exists()


def test_unknown_users_stop_it_before_anything_is_written(run: Run, tmp_path: Path):
    with pytest.raises(DataError, match="nobody"):
        export(run, tmp_path / "out", system="second", users=["u00003", "nobody"], item=None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\n\n", "names no user"),
        (b"a\nb\na\n", "names 'a' twice"),
        (None, "cannot be read"),
        (b"a\n\xff\n", "not UTF-8: .* in line 2"),
        (b"b\n" + b"".join(b"%d\na\n" % n for n in range(200_000)), "names 'a' twice"),
    ],
)
def test_a_cohort_that_is_none(text: bytes | None, message: str, tmp_path: Path):
    """The last has 200,000 repetitions: looked for one by one, each in the whole list, they take hours."""
    if text is not None:
        (tmp_path / "who.txt").write_bytes(text)
    with pytest.raises(ConfigError, match=message):
        read_cohort(tmp_path / "who.txt")


@pytest.mark.parametrize("text", [b"a\nb c\n\n", b"\xef\xbb\xbfa\r\nb c", b"a\rb c\r"])
def test_a_cohort_however_its_lines_end(text: bytes, tmp_path: Path):
    (tmp_path / "who.txt").write_bytes(text)
    assert read_cohort(tmp_path / "who.txt") == ["a", "b c"]


def test_inspect_says_how_a_recipe_starts_from_it(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What it prints is a system that trains: with the coupling alone on the imported A and B."""
    export(run, tmp_path / "lora", system="lora", users=None, item=None)
    assert main(["inspect", str(tmp_path / "lora")]) == 0
    said = capsys.readouterr().out
    assert "is an ordinary LoRA of rank 2, scaled by 8, on 2 layers (q_proj, v_proj)" in said
    system = tomllib.loads(said[said.index("[systems") :])["systems"]["personal"]
    assert system["init_from"] == str(tmp_path / "lora")
    values = VALUES | {"systems": {"personal": SYSTEM | system}, "conventional": {"sasrec": SASREC}}
    made = Run(parse(values, "the printed one"), tmp_path / "run", Options(device="cpu", progress=False))
    made.prepare(), made.embed(), made.fit(), made.train()
    lm, theirs = made.scorers["personal"].lm, run.scorers["lora"].lm
    for (_, ours), (_, layer) in zip(lm.adapters.layers, theirs.adapters.layers, strict=True):
        assert torch.equal(ours.A_PI, layer.A_PI)
        torch.testing.assert_close(ours.B_OQ, layer.B_OQ)
    assert main(["inspect", str(tmp_path)]) == 1
    assert "holds no adapter" in capsys.readouterr().err


def test_two_stages_leave_a_and_b_as_the_first_made_them(run: Run):
    first, second = run.scorers["lora"].lm, run.scorers["second"].lm
    for (_, ours), (_, layer) in zip(second.adapters.layers, first.adapters.layers, strict=True):
        assert torch.equal(ours.A_PI, layer.A_PI)
        assert torch.equal(ours.B_OQ, layer.B_OQ)
    assert second.adapters.coupling.gate.W2_SXZ.any()  # while the coupling learnt


def test_joint_training_moves_the_representation_frozen_does_not(run: Run):
    trained, joint = run.scorers["sasrec"].recommender, run.scorers["joint"].lm.representer
    frozen = run.scorers["second"].lm
    assert frozen.representer is None
    moved = [n for (n, a), b in zip(trained.named_parameters(), joint.parameters(), strict=True) if not torch.equal(a.cpu(), b)]
    assert any("blocks" in name for name in moved)
    assert not any(name.startswith(("out", "dnn")) for name in moved)  # no part of u


def test_the_stage_holds_an_adapter_that_a_user_can_read(run: Run):
    stage = run.stages.system("second").require()
    told = read_json(stage / ADAPTER / CONFIG)
    assert (told["peft_type"], told["r"], told["adaptation"]["coupling"]["kind"]) == ("LIFELORA", 2, "full")
    again = load(AutoModelForCausalLM.from_pretrained(told["base_model_name_or_path"]), stage / ADAPTER)
    ours = run.scorers["second"].lm.adapters
    assert all(torch.equal(a, b) for a, b in zip(again.state().values(), ours.state().values(), strict=True))
    assert read_json(stage / "summary.json")["max_rank"] == 2
    report = (run.stages.report.require() / "report.html").read_text()
    assert "adapters of second" in report
    assert "update of rank &lt;= 2" in report


def test_checkpointing_trains_to_the_same_scores(run: Run, tmp_path: Path):
    values = VALUES | {"systems": {"lora": SYSTEMS["lora"], "second": SYSTEMS["second"]}, "conventional": {"sasrec": SASREC}}
    again = Run(parse(values, "again"), tmp_path / "run", Options(device="cpu", progress=False, checkpointing=True))
    again.prepare(), again.embed(), again.fit(), again.train()
    ours, theirs = again.scorers["second"].lm.adapters, run.scorers["second"].lm.adapters
    assert all(torch.equal(a, b) for a, b in zip(ours.state().values(), theirs.state().values(), strict=True))
