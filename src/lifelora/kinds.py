"""The kinds of each role, ours and others': names and import paths, of which none is imported before it is asked for.

    kind = "full"                   one of ours, by the tables at the end of this file
    kind = "mine"                   a plug-in's: [project.entry-points."lifelora.couplings"]  mine = "package.module:Mine"
    kind = "package.module:Mine"    any class that is installed

Ours are registered as others' are, by one line. A recipe can name code, and bring none: what is named is imported by Python
from what is installed, never from a path or a file, and has to be a subclass of its role's base.
"""

import difflib
import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema, core_schema

from lifelora.errors import ConfigError, LifeloraError
from lifelora.types import Frozen

SHOWN = 120
"""Characters of a wrong kind that are repeated."""


class Variant(Frozen):
    """Base of a configuration that stands for a class of its own: ``kind`` says which, and is its import path if nothing else."""

    kind: str = ""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        if isinstance(values, dict) and not cls.model_fields["kind"].default:
            return {"kind": path_of(cls), **values}
        return values


@dataclass(frozen=True, eq=False)
class Role:
    """What several classes can be. ``Annotated[Coupling.Config, COUPLINGS]`` is the type of a key that chooses one of them."""

    name: str
    """Of the entry points' group: ``lifelora.NAME``."""
    one: str
    "What messages call one of them."
    base: str
    "The import path of what all of their configurations are."
    ours: Mapping[str, str]
    "Import paths by kind."
    otherwise: str | None = None
    "The kind of a table that says none."

    def unless_said(self, kind: str) -> "Role":
        """The same, where a table that says no kind is of this one, so that one value of a default can be changed alone."""
        return replace(self, otherwise=kind)

    @property
    def kinds(self) -> list[str]:
        """Every name, ours first; import paths come on top."""
        return [*self.ours, *sorted(_plugins(self.name, tuple(sys.path)))]

    def find(self, kind: str) -> type[Any]:
        """The configuration's class.

        Raises ConfigError for a kind that does not exist, cannot be imported, is none of this role, or is two plug-ins'.
        """
        if ":" in kind:
            return self._imported(kind, f"kind = {kind[:SHOWN]!r}")
        theirs = _plugins(self.name, tuple(sys.path)).get(kind, [])
        if len(theirs) + (kind in self.ours) > 1:
            owners = ["lifelora"] * (kind in self.ours) + [_owner(entry) for entry in theirs]
            raise ConfigError(
                f"{self.one} '{kind}' is what {' and '.join(owners)} call theirs; uninstall one, or write its "
                'import path: kind = "package.module:Class"'
            )
        if theirs:
            return self._imported(theirs[0].value, f"the plug-in '{kind}' of {_owner(theirs[0])}")
        if kind in self.ours:
            return self._imported(self.ours[kind], kind)
        near = difflib.get_close_matches(kind, self.kinds, n=1)
        guess = f" did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"there is no {self.one} {kind[:SHOWN]!r};{guess} choose one of {self._listed()}, or write the import "
            'path of a class that is installed: "package.module:Class"'
        )

    def validated(self, value: Any, context: Any = None) -> Variant:
        """A table, or a configuration that was made in Python, as an object of its kind's class."""
        if isinstance(value, self._base()):
            self._check(value)
            return value
        kind = self._kind(value)
        config = self.find(kind)
        made: Variant = config.model_validate(value | {"kind": config.model_fields["kind"].default or kind}, context=context)
        self._check(made)
        return made

    def class_of(self, value: Any) -> type[Any]:
        """The configuration's class that a table asks for; the base of all where it asks for none that there is."""
        try:
            return self.find(self._kind(value))
        except ValueError:
            return self._base()

    def _kind(self, value: Any) -> str:
        if not isinstance(value, dict):
            raise ValueError(f"a {self.one} is a table with a kind, which is one of {self._listed()}")
        kind = value.get("kind", self.otherwise)
        if kind is None:
            raise ValueError(f"it lacks its kind, which is one of {self._listed()}")
        if not isinstance(kind, str):
            raise ValueError(f"a kind is a word, one of {self._listed()}")
        return kind

    def _check(self, config: Variant) -> None:
        """What is dumped has to come back: a class is known by its import path, or by the name that it calls itself."""
        mine = path_of(type(config))
        if ":" in config.kind or config.kind in self.kinds:
            if config.kind == mine or self.find(config.kind) is type(config):
                return
            raise ConfigError(f"{mine} calls itself '{config.kind}', which is another {self.one}; leave its kind out")
        raise ConfigError(
            f"{mine} calls itself '{config.kind}', and no plug-in has that name. Declare an entry point of that "
            f"name in the group 'lifelora.{self.name}', or leave its kind out"
        )

    def _imported(self, path: str, who: str) -> type[Variant]:
        module, _, name = path.partition(":")
        parts = name.split(".")
        if not all(part.isidentifier() for part in [*module.split("."), *parts]):
            raise ConfigError(f"{who} is not an import path; write package.module:Class of an installed package")
        try:
            found: Any = import_module(module)
        except LifeloraError:
            raise
        except Exception as error:
            raise ConfigError(f"{who} cannot be imported: {type(error).__name__}: {error}; install it, or repair it") from error
        for part in parts:
            if not hasattr(found, part):
                raise ConfigError(f"{who}: module '{module}' has no '{name}'")
            found = getattr(found, part)
        base = self._base()
        config = getattr(found, "Config", found)
        if not (isinstance(config, type) and issubclass(config, base)):
            raise ConfigError(f"{who} is no {self.one}: its Config has to be a subclass of {path_of(base)}")
        if lacking := sorted(getattr(config, "__abstractmethods__", ())):
            raise ConfigError(f"{who} cannot be used: its Config lacks {', '.join(lacking)}")
        return config

    def _base(self) -> type[Variant]:
        module, _, name = self.base.partition(":")
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        base: type[Variant] = found
        return base

    def _listed(self) -> str:
        return ", ".join(f"'{kind}'" for kind in self.kinds)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Dumped as what it is, with all keys of its own class.
        return core_schema.with_info_plain_validator_function(
            lambda value, info: self.validated(value, info.context), serialization=core_schema.simple_ser_schema("any")
        )


def path_of(config: type) -> str:
    """``package.module:Class``, by which ``find`` finds it: of a Config inside its class, the class."""
    return f"{config.__module__}:{config.__qualname__.removesuffix('.Config')}"


def plugins(config: BaseModel) -> dict[str, str]:
    """What of a configuration is not lifelora's own: the version of each distribution.

    Of a module that belongs to none (a file of yours), a hash of the source of its package. With these in its key, a stage is
    made anew when the code of a plug-in changes.
    """
    found: dict[str, str] = {}
    distributions: Mapping[str, list[str]] | None = None
    for module in sorted({type(inner).__module__ for inner in _inside(config)}):
        package = module.partition(".")[0]
        if package == __name__.partition(".")[0]:
            continue
        distributions = metadata.packages_distributions() if distributions is None else distributions
        if owners := distributions.get(package):
            found |= {owner: metadata.version(owner) for owner in sorted(set(owners))}
        else:
            found[package] = _source_hash(package)
    return found


def _inside(value: Any) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
        value = dict(value)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return
    for inner in value:
        yield from _inside(inner)


def _source_hash(package: str) -> str:
    """Of all Python files of a package, or of a module's own."""
    file = Path(inspect.getfile(sys.modules[package])) if getattr(sys.modules[package], "__file__", None) else None
    if file is None:
        return "without source"  # typed in, at a prompt
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    digest = hashlib.sha256()
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(file.parent).as_posix()} {len(content)}\n".encode() + content)
    return f"sha256:{digest.hexdigest()}"


@cache
def _plugins(role: str, path: tuple[str, ...]) -> dict[str, list[metadata.EntryPoint]]:
    """The entry points of a role by name, as they are with this ``sys.path``."""
    found: dict[str, list[metadata.EntryPoint]] = {}
    for entry in metadata.entry_points(group=f"lifelora.{role}"):
        found.setdefault(entry.name, []).append(entry)
    return found


def _owner(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


# fmt: off
COUPLINGS = Role("couplings", "coupling", "lifelora.lora.coupling.base:Coupling.Config", {
    "identity": "lifelora.lora.coupling.fixed:Identity",
    "static": "lifelora.lora.coupling.fixed:Static",
    "experts": "lifelora.lora.coupling.mixtures:Experts",
    "meta": "lifelora.lora.coupling.mixtures:Meta",
    "hydra": "lifelora.lora.coupling.mixtures:Hydra",
    "full": "lifelora.lora.coupling.full:Full",
})
MODELS = Role("models", "conventional model", "lifelora.conventional.base:Recommender.Config", {
    "popularity": "lifelora.conventional.popularity:Popularity",
    "ease": "lifelora.conventional.ease:EASE", "itemknn": "lifelora.conventional.itemknn:ItemKNN",
    "als": "lifelora.conventional.als:ALS", "bpr": "lifelora.conventional.bpr:BPR",
    "deepfm": "lifelora.conventional.deepfm:DeepFM",
    "autoint": "lifelora.conventional.autoint:AutoInt",
    "dcnv2": "lifelora.conventional.dcnv2:DCNv2",
    "gru4rec": "lifelora.conventional.gru4rec:GRU4Rec",
    "caser": "lifelora.conventional.caser:Caser",
    "sasrec": "lifelora.conventional.sasrec:SASRec",
    "din": "lifelora.conventional.din:DIN",
})
SELECTORS = Role("selectors", "selector of behaviours", "lifelora.retrieval.select:Selector.Config", {
    "most-recent": "lifelora.retrieval.select:MostRecent",
    "most-similar": "lifelora.retrieval.similar:MostSimilar",
    "similar-and-recent": "lifelora.retrieval.similar:SimilarAndRecent",
    "same-field": "lifelora.retrieval.select:SameField",
})
SOURCES = Role("sources", "data source", "lifelora.data.sources.base:Source", {
    "simulated": "lifelora.data.sources.simulated:Simulated",
    "movielens": "lifelora.data.sources.movielens:Movielens",
    "bookcrossing": "lifelora.data.sources.bookcrossing:Bookcrossing",
    "goodreads": "lifelora.data.sources.goodreads:Goodreads",
    "amazon": "lifelora.data.sources.amazon:Amazon",
    "llara": "lifelora.data.sources.llara:Llara",
    "tables": "lifelora.data.sources.tables:Tables",
})
VECTORS = Role("vectors", "maker of vectors", "lifelora.vectors.base:ItemVectors", {
    "hidden-states": "lifelora.vectors.encode:HiddenStates",
    "sentence-encoder": "lifelora.vectors.encode:SentenceEncoder",
    "endpoint": "lifelora.vectors.endpoint:EndpointVectors",
    "precomputed": "lifelora.vectors.precomputed:Precomputed",
})
WRITERS = Role("writers", "writer", "lifelora.knowledge.write:Writer", {
    "prompt": "lifelora.knowledge.write:RawPrompt",
    "lm": "lifelora.knowledge.write:LM",
    "endpoint": "lifelora.knowledge.write:EndpointWriter",
})
# fmt: on
KNOWLEDGE = replace(VECTORS, ours={**VECTORS.ours, "precomputed": "lifelora.knowledge.read:OwnKnowledge"})
"""Of knowledge: the same makers, but for the form of files of one's own."""
BACKBONES = Role(
    "backbones",
    "backbone",
    "lifelora.llm.backbone:BackboneConfig",
    {
        "pretrained": "lifelora.llm.backbone:Pretrained",
        "nano": "lifelora.llm.nano:Nano",
    },
)
