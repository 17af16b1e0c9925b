"""Kinds: ours and others' are found in the same way, come back from what was dumped, and wrong ones are answered."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from lifelora import kinds
from lifelora.errors import ConfigError
from lifelora.kinds import COUPLINGS, path_of, plugins
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import AnyCoupling, Coupling, Full, Identity
from plugin_world import install

ROLES = [role for role in vars(kinds).values() if isinstance(role, kinds.Role)]
SWITCH = """
from typing import final
import torch
from lifelora.lora.coupling import Coupling
from lifelora.lora.structure import Diagonal


class Switch(Coupling):
    class Config(Coupling.Config):
        slope: float = 1.0

        def build(self, inputs, user_width, generator):
            return Switch(self, self.users(user_width))

    def structure(self, u_BD):
        w_B = torch.sigmoid(self.config.slope * u_BD.sum(dim=1))
        return Diagonal(w_B[None, :, None].expand(2, -1, 1), block=self.config.rank)
"""


def coupling(**values: object) -> Coupling.Config:
    return Adaptation.model_validate({"coupling": values}).coupling


def refused(**values: object) -> str:
    with pytest.raises(ValidationError) as caught:
        coupling(**values)
    return str(caught.value)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_kind_of_ours_is_found_and_calls_itself_as_the_registry_does(role: kinds.Role):
    assert role.ours
    for kind in role.ours:
        config = role.find(kind)
        assert config.model_fields["kind"].default == kind
        assert config.model_config["extra"] == "forbid"
        assert role.find(path_of(config)) is config


def test_any_subclass_from_python():
    class Mine(Coupling):
        class Config(Coupling.Config):
            slope: float = 1.0

            def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> Coupling:
                return Mine(self)

        def structure(self, u_BD: Tensor) -> None: ...

    config = Mine.Config(slope=2)
    adaptation = Adaptation(coupling=config)
    assert adaptation.coupling is config
    assert adaptation.model_dump()["coupling"] == {
        "kind": f"{__name__}:{Mine.__qualname__}",
        "rank": 8,
        "alpha": 16.0,
        "slope": 2.0,
    }


@pytest.mark.parametrize("kind", ["switch", "switchboard:Switch", "switchboard:Switch.Config"])
def test_a_plug_in_by_name_and_by_import_path_comes_back_with_all_its_keys(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    install(tmp_path, monkeypatch, "switchboard", SWITCH, couplings="switch = switchboard:Switch")
    adaptation = Adaptation.model_validate({"coupling": {"kind": kind, "slope": 3, "rank": 4}})
    assert type(adaptation.coupling).__module__ == "switchboard"
    dumped = adaptation.model_dump(mode="json")
    assert dumped["coupling"] == {"kind": kind, "rank": 4, "alpha": 16.0, "slope": 3.0}
    assert Adaptation.model_validate(dumped) == adaptation
    assert Adaptation.model_validate_json(adaptation.model_dump_json()) == adaptation


def test_a_plug_in_that_names_itself_as_its_entry_point_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = SWITCH.replace("slope: float", "kind: str = 'switch'\n        slope: float")
    install(tmp_path, monkeypatch, "switchboard", source, couplings="switch = switchboard:Switch")
    assert coupling(kind="switch") == coupling(kind="switchboard:Switch")
    assert coupling(kind="switchboard:Switch").kind == "switch"
    assert "switch" in COUPLINGS.kinds


@pytest.mark.parametrize("named", ["switch", "full"])
def test_a_class_that_calls_itself_what_it_is_not_is_refused(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install(tmp_path, monkeypatch, "switchboard", SWITCH.replace("slope: float", f"kind: str = {named!r}\n        slope: float"))
    assert f"switchboard:Switch calls itself '{named}'" in refused(kind="switchboard:Switch")


def test_wrong_keys_and_values_of_a_plug_in_are_told_with_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from lifelora.recipe.files import parse

    install(tmp_path, monkeypatch, "switchboard", SWITCH)
    system = {"coupling": {"kind": "switchboard:Switch", "slop": 1, "rank": 0}, "representation": {"model": "din"}}
    with pytest.raises(ConfigError) as caught:
        parse({"name": "x", "conventional": {"din": {"model": {"kind": "din"}}}, "systems": {"p": system}}, "here")
    lines = str(caught.value).splitlines()
    assert "  systems.p.coupling.slop: there is no such key; allowed here: alpha, kind, rank, slope." in lines
    assert any(line.startswith("  systems.p.coupling.rank: ") for line in lines)


def test_an_unknown_kind_is_answered_with_the_allowed_ones_plug_ins_among_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install(tmp_path, monkeypatch, "switchboard", SWITCH, couplings="switch = switchboard:Switch")
    said = refused(kind="swich")
    assert "did you mean 'switch'? choose one of 'identity', 'static', 'experts', 'meta', 'hydra', 'full', 'switch'" in said
    assert "lacks its kind, which is one of 'identity'" in refused(rank=3)
    assert "a kind is a word" in refused(kind=3)
    with pytest.raises(ValidationError, match="a coupling is a table with a kind"):
        Adaptation.model_validate({"coupling": "full"})


@pytest.mark.parametrize(
    ("source", "kind", "said"),
    [
        (
            "import no_such_package_anywhere",
            "broken:Mine",
            "cannot be imported: ModuleNotFoundError: No module named 'no_such_pac",
        ),
        ("x = (", "broken:Mine", "cannot be imported: SyntaxError"),
        (
            "raise RuntimeError('no license')",
            "broken:Mine",
            "cannot be imported: RuntimeError: no license; install it, or repair it",
        ),
        ("", "no_such_module_anywhere:Mine", "cannot be imported: ModuleNotFoundError"),
        ("", "broken:Mine", "module 'broken' has no 'Mine'"),
        ("", "broken:", "is not an import path"),
        ("", ":Mine", "is not an import path"),
        ("", "../broken.py:Mine", "is not an import path"),
        ("", "/tmp/broken:Mine", "is not an import path"),
        ("", "broken:Mine()", "is not an import path"),
        ("", "broken:__class__", "is no coupling: its Config has to be a subclass of lifelora.lora.coupling.base:Coupling"),
        ("Mine = 3", "broken:Mine", "is no coupling: its Config has to be a subclass of lifelora.lora.coupling.base:Coupling"),
        ("class Mine: ...", "broken:Mine", "is no coupling"),
        ("from os import system as Mine", "broken:Mine", "is no coupling"),
        (
            "from lifelora.lora.coupling import Coupling\nclass Mine(Coupling):\n    class Config(Coupling.Config): ...",
            "broken:Mine",
            "cannot be used: its Config lacks build",
        ),
    ],
)
def test_what_is_no_plug_in_is_refused(source: str, kind: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install(tmp_path, monkeypatch, "broken", source, couplings="mine = broken:Mine")
    assert said in refused(kind=kind)
    if kind == "broken:Mine":
        assert "the plug-in 'mine' of broken-dist 1.0" in refused(kind="mine")
        assert said in refused(kind="mine")


def test_two_plug_ins_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("one", "two"):
        install(tmp_path, monkeypatch, name, SWITCH, couplings=f"switch = {name}:Switch\nfull = {name}:Switch")
    said = refused(kind="switch")
    assert "coupling 'switch' is what " in said
    assert "one-dist 1.0" in said
    assert "two-dist 1.0" in said
    assert "'full' is what lifelora and " in refused(kind="full")
    assert coupling(kind="two:Switch").kind == "two:Switch"
    assert coupling(kind="identity") == Identity.Config()


def test_plug_ins_of_a_configuration_are_told_with_their_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    install(tmp_path, monkeypatch, "switchboard", SWITCH)
    adaptation = Adaptation.model_validate({"coupling": {"kind": "switchboard:Switch"}})
    assert plugins(adaptation) == {"switchboard-dist": "1.0"}
    assert plugins(Adaptation(coupling=Full.Config())) == {}
    install(tmp_path, monkeypatch, "switchboard", SWITCH, version="1.1")
    assert plugins(adaptation) == {"switchboard-dist": "1.1"}


def test_a_module_of_no_distribution_is_told_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told = []
    for source in (SWITCH, SWITCH, SWITCH + "\n# changed"):
        install(tmp_path, monkeypatch, "switchboard", source, version=None)
        told.append(plugins(Adaptation.model_validate({"coupling": {"kind": "switchboard:Switch"}}))["switchboard"])
    assert told[0] == told[1] != told[2]
    assert told[0].startswith("sha256:")


def test_a_registry_is_the_type_of_a_key():
    class Own(Coupling.Config):
        kind: Literal["full"] = "full"

        def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> Coupling:
            raise NotImplementedError

    adapter: TypeAdapter[Coupling.Config] = TypeAdapter(AnyCoupling)
    assert adapter.validate_python(Full.Config(rank=2)) == Full.Config(rank=2)
    with pytest.raises(ValidationError, match="calls itself 'full', which is another coupling"):
        adapter.validate_python(Own())
