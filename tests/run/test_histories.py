"""What a conventional model reads and what the LM is shown are separate settings (RecLoRA's long-short retrieval)."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.stages import Stages
from run_world import TRAINING, VALUES, judged_on, scores, show

DIN = VALUES["conventional"]["din"]
SYSTEM = VALUES["systems"]["personal"]
CONVENTIONAL = {
    "din": DIN,
    "sim": DIN | {"behaviours": {"kind": "most-similar", "k": 6}},
    "hard": DIN | {"behaviours": {"kind": "same-field", "k": 6, "field": "genre"}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    values = VALUES | {
        "conventional": CONVENTIONAL,
        "systems": {"short": SYSTEM | {"representation": {"model": "sim"}, "behaviours": {"kind": "most-recent", "k": 2}}},
    }
    run = Run(parse(values, "the tests' recipe"), tmp_path_factory.mktemp("runs") / "sim", Options(device="cpu", progress=False))
    run.all()
    return run


def test_each_model_reads_its_own_history(run: Run):
    dataset, targets = run.context.dataset, judged_on(run)
    read = {name: run.scorers[name].samples(targets) for name in CONVENTIONAL}
    recent, _ = dataset.history(targets, 6)
    assert torch.equal(read["din"].history_BH[:, -1], torch.from_numpy(dataset.item_N[recent[:, -1]].astype(np.int64)))
    assert not torch.equal(read["sim"].history_BH, read["din"].history_BH)
    genre_M = dataset.schema().item_fields_MF[:, dataset.item_field_names.index("genre")]
    mask_BH = read["hard"].mask_BH
    assert mask_BH.any()
    target_B1 = genre_M[read["hard"].item_B][:, None].expand_as(mask_BH)
    assert torch.equal(genre_M[read["hard"].history_BH[mask_BH]], target_B1[mask_BH])
    assert not np.array_equal(scores(run, "sim", targets), scores(run, "din", targets))


def test_the_lm_sees_two_where_its_representation_read_six(run: Run):
    targets, sim = judged_on(run), run.scorers["sim"]
    asked = show(run, "short", targets)
    assert asked.chosen_NK.shape[1] == 2
    with torch.inference_mode():
        expected_ND = sim.model.represent(sim.samples(targets))
    torch.testing.assert_close(asked.user_ND, expected_ND.clone())
    assert sim.samples(targets).mask_BH.shape[1] == 6
    report = (run.stages.report.require() / "report.html").read_text()
    assert "the 6 behaviours most like the target" in report
    assert "the last 6 behaviours with the target&#39;s genre" in report


def test_a_conventional_model_alone_can_read_by_vectors(tmp_path: Path):
    values = VALUES | {"conventional": {"sim": CONVENTIONAL["sim"] | {"training": TRAINING}}, "systems": {}}
    run = Run(parse(values, "the tests' recipe"), tmp_path / "run", Options(device="cpu", progress=False))
    run.all()
    assert "sim" in run.table()
    assert "2-vectors" in run.status()


def test_a_sentence_encoder_brings_its_own_model(tmp_path: Path):
    values = VALUES | {"conventional": {"sim": CONVENTIONAL["sim"]}, "systems": {}}
    own = Stages(parse(values, "the tests' recipe"), tmp_path)
    encoder = Stages(parse(values | {"vectors": {"kind": "sentence-encoder", "model": "m"}}, "the tests' recipe"), tmp_path)
    assert own.need_backbone
    assert "backbone" in own.vectors.inputs
    assert not encoder.need_backbone
    assert "backbone" not in encoder.vectors.inputs


def test_a_run_with_vectors_of_a_file_needs_no_lm_and_sees_that_the_file_changed(tmp_path: Path):
    path = tmp_path / "v.parquet"
    sim = VALUES["conventional"]["din"] | {"behaviours": {"kind": "most-similar", "k": 3, "similarity": "l2", "order": "high"}}
    values = VALUES | {"conventional": {"sim": sim}, "systems": {}, "vectors": {"kind": "precomputed", "path": str(path)}}
    recipe = parse(values, "the tests' recipe")
    run = Run(recipe, tmp_path / "run", Options(device="cpu", progress=False))
    run.prepare()
    names = run.context.dataset.items.outside(range(run.context.dataset.n_items))
    rows = np.random.default_rng(0).normal(size=(len(names), 4))
    pq.write_table(pa.table({"item": names[1:], "vector": list(rows[1:])}), path)
    run.all()
    assert not run.stages.need_backbone
    assert not (tmp_path / "run" / "2-backbone").exists()
    report = (run.stages.report.require() / "report.html").read_text()
    assert f"1 of {len(names)} items have no vector in &#39;v.parquet&#39; (the first of them is &#39;{names[0]}&#39;)" in report
    assert "the 3 behaviours most like the target (distance), the most similar first" in report
    before = run.stages.vectors.key
    path.rename(tmp_path / "gone")
    assert Stages.open(tmp_path / "run").vectors.complete()
    pq.write_table(pa.table({"item": names, "vector": list(rows)}), path)
    changed = Stages.open(tmp_path / "run").vectors
    assert changed.key != before
    assert not changed.complete()
