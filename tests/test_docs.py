"""The documents are true: their commands run, their snippets work, their recipes parse; and so do the examples.

Runs are made small with --set; commands on data that is not here are left out.
"""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lifelora.cli import main
from lifelora.commands import parser
from lifelora.commands.stages import STAGES
from lifelora.data.negatives import Negatives
from lifelora.data.sources import parse_source
from lifelora.data.split import NewItems
from lifelora.lora.coupling import Full
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.recipe.files import load, parse
from lifelora.recipe.shipped import built_in
from lifelora.recipe.system import Representation
from lifelora.retrieval.growing import Growing
from lifelora.run import Options, Run
from lifelora.run.spelling import spelling_of
from small_run import SMALL

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOR_FILES = [*(setting for setting in SMALL if not setting.startswith("data.")), "backbone.histories=0.05"]
TRAINED = ("conventional.sasrec", "conventional.din", "systems.lora", "systems.personal")
MODELS = [
    f"{part}.training.{key}={value}"
    for part in TRAINED
    for key, value in (("epochs", 1), ("max_steps", 2), ("batch_size", 16), ("evaluations_per_epoch", 1))
]
SHOTS = [f"systems.{name}.{key}=24" for name in ("lora", "personal") for key in ("train_samples", "validation_samples")]


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)


def commands(path: Path) -> list[list[str]]:
    """The words of every `$ lifelora` line, in order."""
    lines = "".join(blocks(path, "console")).splitlines()
    assert all(line.startswith("$ lifelora ") for line in lines), lines
    return [shlex.split(line, comments=True)[2:] for line in lines]


def _has(recipe: list[str], setting: str) -> bool:
    """Whether a built-in recipe has the part that a setting is about; what is none has those of the demo."""
    section, name = setting.split(".")[:2]
    text = built_in().get("".join(recipe))
    return text is None or name in tomllib.loads(text).get(section, {})


def small(words: list[str]) -> list[str]:
    if words[0] not in ("demo", "run", "enhance", *STAGES):
        return words
    own = SMALL if "--data" not in words or "simulated" in words else FOR_FILES
    settings = own if words[0] == "enhance" else [*own, *filter(partial(_has, words[1:2]), [*MODELS, *SHOTS])]
    if any(word.startswith("tables:") for word in words):
        settings += ["data.rules.min_history=3", "data.rules.label_above=3"]
    return [*words, "--quiet", "--device", "cpu", *(word for setting in settings for word in ("--set", setting))]


def write_shop(folder: Path) -> None:
    """The files that docs/own-data.md describes, under the mapping that it shows."""
    (mapping,) = [block for block in blocks(ROOT / "docs/own-data.md", "toml") if block.startswith("interactions")]
    (folder / "shop.toml").write_text(mapping)
    rows = [f"c{c},A-{(c * 5 + e) % 40},{(c * e) % 5 + 1},{1_700_000_000 + 86_400 * e + c}" for c in range(20) for e in range(20)]
    (folder / "log.csv").write_text("\n".join(["customer,sku,stars,bought_at", *rows]))
    goods = [f'A-{i},Kettle {i},"for tea, loud",Argo' for i in range(40)]
    (folder / "goods.csv").write_text("\n".join(["sku,name,text,brand", *goods]))
    (folder / "users.csv").write_text("\n".join(["customer,city", *(f"c{c},Graz" for c in range(20))]))


def available(words: list[str], folder: Path) -> bool:
    """Whether the data of a command is here; MovieLens-100K comes from $LIFELORA_DATA, nothing is downloaded."""
    if words[:2] == ["models", "get"] or words[0] == "serve":  # it runs until it is stopped: tests/serving starts it
        return False
    if any(word.startswith("movielens:ml-100k") for word in words):
        published = Path(os.environ.get("LIFELORA_DATA", "nowhere")) / "ml-100k"
        if not published.is_dir():
            return False
        if not (folder / "ml-100k").exists():
            (folder / "ml-100k").symlink_to(published)
    return "--download" not in words


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_shop(tmp_path)
    return tmp_path


def test_the_first_walk_of_the_readme(workplace: Path, capsys: pytest.CaptureFixture[str]):
    """demo, show, recommend: what a newcomer types first."""
    walk = [words for words in commands(ROOT / "README.md") if words[0] in ("demo", "show", "recommend")]
    assert [words[0] for words in walk] == ["demo", "show", "recommend"]
    for words in walk:
        assert main(small(words)) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert (workplace / "runs/demo/6-report/report.html").is_file()
    assert "Next:\n  lifelora recommend runs/demo --user u" in said
    assert "For user u00007, by '" in said
    assert said.count("\n  5. ") == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_every_document_runs(path: Path, workplace: Path, capsys: pytest.CaptureFixture[str]):
    for words in commands(path):
        if available(words, workplace):
            assert main(small(words)) == 0, (words, capsys.readouterr().err)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_of_every_document_is_one(path: Path):
    """Without running them: the words are known to the parser, and the recipes and sources that they name are there."""
    for words in commands(path):
        arguments = parser().parse_args(small(words))
        if getattr(arguments, "recipe", None) and not getattr(arguments, "vllm", None):  # which needs a run
            assert load(arguments.recipe, None, [s for s in arguments.set if not s.startswith("data.source")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
@pytest.mark.slow
def test_every_python_snippet_runs(path: Path, workplace: Path):
    """One after another, as a reader would type them."""
    names: dict[str, object] = {}
    for snippet in blocks(path, "python"):
        exec(compile(snippet, str(path), "exec"), names)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_every_example_runs(path: Path, tmp_path: Path):
    ran = subprocess.run([sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_recipe_that_a_document_shows_parses(path: Path):
    if path.name == "extending.md":
        pytest.skip("its recipe runs in test_extending.py, where the plug-ins that it names are installed")
    for block in blocks(path, "toml"):
        if "[systems." in block:
            assert parse(tomllib.loads(block), path.name).systems


def test_the_recipes_of_the_document_parse():
    shown = [parse(tomllib.loads(block), "docs/recipes.md") for block in blocks(ROOT / "docs/recipes.md", "toml")]
    recipe, alike, controlled, mended, knowing, next_items, together = shown
    assert any(system.prior for system in mended.systems.values())
    assert together.blends
    plain, *controls = controlled.systems.values()
    assert [control.model_copy(update={"control": None}) for control in controls] == [plain, plain]
    assert [control.control for control in controls] == ["shuffled-history", "titles-as-ids"]
    assert next_items.task == "next-item"
    assert next_items.data.rules.candidates is not None
    assert next_items.systems["ilora"].item_form == "text-to-hybrid"
    assert next_items.systems["ilora"].training.groups["coupling"].learning_rate == 2.4e-4
    assert knowing.conventional["din-knows"].knowledge == "written"
    assert knowing.knowledge["written"].text.kind == "lm"
    assert recipe.systems["personal"].representation == Representation(model="din")
    assert recipe.systems["personal"].train_samples == 8192
    lora, personal, soft = alike.systems.values()
    assert personal.training == lora.training.model_copy(update={"learning_rate": 3e-4})
    assert personal.coupling == Full.Config(rank=8)
    assert soft == personal.model_copy(update={"representation": None, "soft": soft.soft, "coupling": soft.coupling})


def test_the_papers_data_of_the_document_are_settings_of_a_recipe():
    papers, new = [block for block in blocks(ROOT / "docs/data.md", "toml") if block.startswith("[data")]
    rest = {"name": "x", "conventional": {"popular": {"model": {"kind": "popularity"}}}}
    recipe = parse(tomllib.loads(papers) | rest, "docs/data.md")
    assert recipe.data.source.kind == "bookcrossing"
    assert recipe.data.rules.split.kind == "one-per-user"
    assert parse(tomllib.loads(new) | rest, "docs/data.md").data.rules.split == NewItems(min_events=20)


def test_the_negatives_of_the_document_are_rules_of_a_recipe():
    (block,) = [block for block in blocks(ROOT / "docs/own-data.md", "toml") if "negatives" in block]
    rest = {"name": "x", "conventional": {"popular": {"model": {"kind": "popularity"}}}}
    recipe = parse(tomllib.loads(block) | rest, "docs/own-data.md")
    assert recipe.data.rules.negatives == Negatives()


def test_the_mapping_of_the_document_reads_its_tables(workplace: Path):
    raw = parse_source("tables:shop.toml").read()
    assert raw.interactions.num_rows == 400
    assert raw.catalogue.column_names == ["item", "title", "description", "brand"]
    assert raw.profiles.to_pylist()[0] == {"user": "c0", "city": "Graz"}
    assert raw.words.did == "bought"
    assert main(["data", "tables:shop.toml"]) == 0


def test_the_prompt_of_the_document_is_what_is_printed(workplace: Path, capsys: pytest.CaptureFixture[str]):
    """To the last token, and it is the system's that the recipe beside it would change."""
    (command,) = commands(ROOT / "docs/prompts.md")
    assert main(command) == 0
    assert f"```\n{capsys.readouterr().out}```\n" in (ROOT / "docs/prompts.md").read_text()
    chat, block = blocks(ROOT / "docs/prompts.md", "toml")
    assert parse(tomllib.loads(chat), "docs/prompts.md").systems["lora"].template.chat
    template = parse(tomllib.loads(block), "docs/prompts.md").systems["lora"].template
    words, item = {"star": "star", "stars": "stars"}, {"title": "Kettle", "brand": "Argo", "description": "for tea"}
    assert template.behaviour_line({"item": "article", **words}, item, 5.0) == "Kettle of Argo: 5 stars\n"
    assert template.question_lines(words | {"item": "article"}, item).startswith(
        "Would they like Kettle of Argo?\nAbout it: for tea\n"
    )


def test_the_tree_of_the_document_is_what_a_model_reads(workplace: Path):
    """Of user c3, from the shop's own lines: each part at its position, and as many tokens as are told."""
    settings = ["data.rules.min_history=3", "data.rules.label_above=3"]
    run = Run(load("demo", parse_source("tables:shop.toml"), settings), workplace / "run", Options(device="cpu", progress=False))
    run.prepare()
    dataset = run.context.dataset
    template = run.recipe.systems["lora"].template.leaving_out(dataset.left_out)
    tokenizer = spelling_of(run.context, template).tokenizer
    targets = dataset.targets(dataset.log.rows(np.repeat(dataset.users.inside(["c3"]), 4), np.array([4, 5, 6, 7])))
    chosen_BK, mask_BK = Growing(k=2, block=4).select(dataset, targets)
    trees = YesNoBuilder.make(dataset, template, tokenizer, 1024).trees(targets, chosen_BK, mask_BK, np.zeros(4, np.int64))
    tokens_L, drawn, before = trees.tokens_L.tolist(), list[str](), 0
    for place, start, length in zip(*(x.tolist() for x in (trees.place_G, trees.starts, trees.branch_G)), strict=True):
        for left, numbers, position in (("", tokens_L[before:place], before), ("    ", tokens_L[start : start + length], place)):
            lines = tokenizer.decode(numbers, skip_special_tokens=True).strip().split(" \n ")
            number = str(position) if left or not position else ""
            drawn += [f"{number if line is lines[0] else '':>4}  {left}{line}".rstrip() for line in lines]
        before = place
    text = (ROOT / "docs/trees.md").read_text()
    assert blocks(ROOT / "docs/trees.md", "")[0] == "\n".join([*drawn, ""])
    trunk, read, own = int(trees.trunk_R), len(tokens_L), int((trees.place_G + trees.branch_G).sum())
    assert f"{read} tokens: {trunk} of the trunk and 18 of each branch. The four prompts that it stands for have {own}." in text
    picture = (ROOT / "docs/tree.svg").read_text().lower()
    assert [line.strip() for line in drawn if "kettle" in line and "would" not in line and line.strip() not in picture] == []


def test_the_table_of_stages_names_every_stage():
    rows = re.findall(r"^\| `(\w+)` \| `\d-", (ROOT / "docs/recipes.md").read_text(), re.MULTILINE)
    assert rows == list(STAGES)


def test_every_command_is_in_some_document():
    text = "".join(path.read_text() for path in DOCUMENTS)
    for command in (
        "demo",
        "data",
        "prompt",
        "run",
        "enhance",
        "seeds",
        "recommend",
        "serve",
        "store",
        "show",
        "models",
        *STAGES,
    ):
        assert re.search(rf"`{command}`|`lifelora {command}|lifelora {command}\b", text), command


@pytest.mark.parametrize(
    "path",
    [*DOCUMENTS, *sorted((ROOT / "examples").rglob("*.md")), *sorted((ROOT / "studies").rglob("*.md"))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(path: Path):
    """To a file, and to a heading of it where one is named."""
    for target, heading in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", path.read_text()):
        if target.startswith("https://"):
            continue
        there = path.parent / target if target else path
        assert there.exists(), target
        assert not heading or heading in anchors(there), (target, heading)


def anchors(path: Path) -> set[str]:
    """The headings of a document, as links name them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", re.sub(r"[`*]", "", heading)).lower().replace(" ", "-") for heading in headings}
