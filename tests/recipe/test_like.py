"""``like``: what a part takes from another one, and what it does not."""

import tomllib
from typing import Any

import pytest

from lifelora.errors import ConfigError
from lifelora.recipe.files import dump, load, parse
from lifelora.recipe.like import expanded
from lifelora.recipe.shipped import built_in

BASE = """
name = "alike"
[conventional.din]
model = { kind = "din", history_length = 30, dropout = 0.2 }
training = { epochs = 2, batch_size = 64 }
[systems.lora]
behaviours = { kind = "most-recent", k = 7 }
mix_with = { kind = "most-similar", k = 5 }
coupling = { kind = "identity", rank = 4 }
targets = ["q_proj", "v_proj"]
training = { epochs = 3, patience = 2, groups = { model = { learning_rate = 1e-3 }, coupling = { weight_decay = 0.1 } } }
"""


def written(more: str) -> dict[str, Any]:
    return tomllib.loads(BASE + more)


def refused(more: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(written(more), "here")
    return str(caught.value)


def test_what_is_written_stands_and_the_rest_is_taken():
    """Beside the same keys, written out."""
    alike = parse(
        written("""
[systems.personal]
like = "lora"
coupling = { kind = "full", alpha = 8.0 }
representation = { model = "din" }
mix_with = "null"
targets = ["all-linear"]
training = { epochs = 1, groups = { coupling = { learning_rate = 2e-4 }, model = "null" } }
"""),
        "here",
    )
    assert alike == parse(
        written("""
[systems.personal]
behaviours = { kind = "most-recent", k = 7 }
coupling = { kind = "full", alpha = 8.0 }
representation = { model = "din" }
targets = ["all-linear"]
training = { epochs = 1, patience = 2, groups = { coupling = { learning_rate = 2e-4, weight_decay = 0.1 } } }
"""),
        "here",
    )
    assert alike.systems["lora"] == parse(written(""), "here").systems["lora"]


def test_a_table_of_another_kind_is_the_whole_table():
    recipe = parse(
        written("""
[conventional.sim]
like = "din"
model = { history_length = 60 }
[conventional.sasrec]
like = "din"
model = { kind = "sasrec" }
"""),
        "here",
    )
    sim, sasrec = recipe.conventional["sim"], recipe.conventional["sasrec"]
    assert (sim.model.kind, sim.model.history_length, sim.model.dropout) == ("din", 60, 0.2)
    assert (sasrec.model.kind, sasrec.training) == ("sasrec", recipe.conventional["din"].training)
    assert sasrec.model == type(sasrec.model)()  # nothing of din's


def test_chains_and_names_that_come_later():
    recipe = parse(
        written("""
[systems.third]
like = "second"
validation_samples = 7
[systems.second]
like = "lora"
train_samples = 9
training = { patience = "null" }
"""),
        "here",
    )
    third = recipe.systems["third"]
    assert (third.train_samples, third.validation_samples, third.training.patience, third.training.epochs) == (9, 7, None, 3)
    assert list(recipe.systems) == ["lora", "third", "second"]


def test_two_towers_can_be_alike():
    recipe = parse(
        written("""
[two_towers.a]
path = "x"
max_tokens = 99
[two_towers.b]
like = "a"
train = "head"
"""),
        "here",
    )
    assert recipe.two_towers["b"] == recipe.two_towers["a"].model_copy(update={"train": "head"})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('[systems.x]\nlike = "lroa"', r"here: systems.x.like = 'lroa' is none of this recipe's [systems.NAME] (lora)"),
        ('[systems.x]\nlike = "din"', "systems.x.like = 'din' is none of this recipe's [systems.NAME] (lora)"),
        ("[systems.x]\nlike = 3", "systems.x.like = 3 is none of this recipe's [systems.NAME]"),
        ('[systems.x]\nlike = ["lora"]', "systems.x.like = ['lora'] is none of"),
        ('[systems.x]\nlike = "x"', "systems.x.like: x → x is a circle; remove one like"),
        ('[systems.x]\nlike = "y"\n[systems.y]\nlike = "z"\n[systems.z]\nlike = "y"', "systems.y.like: y → z → y is a circle"),
        ('[knowledge.a]\nlike = "b"', "knowledge.a.like: there is no such key"),
        ('[systems.x]\nlike = "lora"\ncoupling = 3', "systems.x.coupling: "),
        ('[systems.x]\nlik = "lora"', "systems.x.lik: there is no such key; allowed here: behaviours"),
    ],
)
def test_what_cannot_be_alike(more: str, said: str):
    assert said in refused(more)


def test_like_is_among_the_keys_that_are_allowed():
    assert " like," in refused('[systems.x]\nlik = "lora"')
    assert " like," not in refused('[systems.x.training]\nlik = "lora"')


def test_a_mistake_is_told_where_it_is_written_and_once():
    message = refused("""
[systems.wrong]
like = "lora"
max_tokens = 3
[systems.alike]
like = "wrong"
[systems.chained]
like = "alike"
[systems.other]
like = "wrong"
max_tokens = 4
""")
    assert message.splitlines()[0] == "here has 2 mistakes:"
    assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == [
        "systems.wrong.max_tokens",
        "systems.other.max_tokens",
    ]


def test_what_a_part_cannot_be_as_a_whole_is_told_once_too():
    message = refused(
        '[systems.zero]\ntrain_samples = 0\nloss = "yes"\n[systems.same]\nlike = "zero"\n'
        '[systems.other]\nlike = "zero"\nloss = "answer"\ncoupling = { kind = "static" }'
    )
    assert message.splitlines()[0] == "here has 2 mistakes:"
    assert [line.split(":")[0].strip() for line in message.splitlines()[1:]] == ["systems.zero", "systems.other"]


def test_settings_come_before():
    recipe = load(
        "ilora", settings=["systems.lora.training.epochs=1", "systems.token.coupling.experts=2", "systems.random.like=llara"]
    )
    assert {system.training.epochs for name, system in recipe.systems.items() if name != "zero-shot"} == {1}
    assert (recipe.systems["token"].coupling.experts, recipe.systems["ilora"].coupling.experts) == (2, 4)
    assert recipe.systems["random"].coupling == recipe.systems["llara"].coupling


def test_a_recipe_that_is_written_out_has_no_like():
    assert "like" in tomllib.loads(built_in()["ilora"])["systems"]["ilora"]
    recipe = load("ilora")
    values = tomllib.loads(dump(recipe))
    assert not any("like" in system for system in values["systems"].values())
    assert parse(values, "its dump") == recipe


def test_the_values_that_came_are_not_changed():
    values = written('[systems.x]\nlike = "lora"\ntraining = { epochs = 1 }')
    before = repr(values)
    whole = expanded(values)
    assert repr(values) == before
    assert whole["systems"]["x"]["training"] == values["systems"]["lora"]["training"] | {"epochs": 1}


def test_no_part_of_a_built_in_recipe_repeats_what_another_says():
    """No two of a section have four keys or more in common, word for word."""
    for name, text in built_in().items():
        values = tomllib.loads(text)
        for section in ("conventional", "systems"):
            parts = list(values.get(section, {}).items())
            for place, (one, first) in enumerate(parts):
                for other, second in parts[place + 1 :]:
                    same = [key for key in first.keys() & second.keys() if first[key] == second[key]]
                    assert len(same) < 4, f"{name}: {section}.{other} repeats {sorted(same)} of {one}"
