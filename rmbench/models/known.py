"""The table of known models: how their authors read them, where no config says it.

`known.toml` beside this module has one table an entry, and the file that the environment variable RMBENCH_KNOWN names
may add more, which come first. An entry is known again by patterns of hub ids, or, of any checkpoint, by its
architecture together with names of weights that it holds.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from rmbench import bounded
from rmbench.checkpoints.adapters import base_of
from rmbench.checkpoints.files import SAFE_INDEX, has_weights, shapes_of, weight_paths
from rmbench.checkpoints.fingerprint import Checkpoint
from rmbench.checkpoints.tensors import BESIDE
from rmbench.errors import ModelError, UsageError

NONE = "none"  # as the option `entry`: the table is not looked at
_OWN_TABLE = "RMBENCH_KNOWN"
# Options that say which weights are read, where, and what is allowed
_OF_THE_USER = frozenset(
    {"device", "average", "weight", "adapter", "base", "quantise", "trust_remote_code", "entry", "allow_unverified"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """How one model, or all that were made alike, is read.

    `family` reads it, with `options` where the user gives none, and `rule`, what the family has to know besides.
    `template` is Jinja, where the authors use another than the tokenizer's; `system` is put in front of a conversation
    that has no system turn; of a model with `no_system` its authors give none, and one that the data have is noted.
    `sources` say for each fact where it was read, as `owner/repository@commit:path`; an entry is `verified` where all
    of them were, and a test computes the same reward from them. `refused` is why it is not read at all.
    """

    name: str
    family: str
    ids: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    rule: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    system: str | None = None
    no_system: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)
    verified: bool = False
    refused: str | None = None

    def names(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint of the hub has one of its ids, which says more than what it is made of."""
        return checkpoint.commit is not None and any(
            fnmatchcase(checkpoint.id.lower(), one.lower()) for one in self.ids
        )

    def is_of(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint is one of these."""
        if self.names(checkpoint):
            return True
        if not self.architectures and not self.weights:
            return False
        named = (checkpoint.json("config.json") or {}).get("architectures")
        stated = set(map(str, named)) if isinstance(named, list) else set()
        # where no config names one, several weights tell as much; one alone is what many call their head
        is_silent = not stated and len(self.weights) > 1 and checkpoint.commit is None
        if self.architectures and not stated & set(self.architectures) and not is_silent:
            return False
        names = _names_of(checkpoint) if self.weights else set()
        # of a checkpoint on the hub without an index nobody knows the names before it is loaded
        return bool(self.architectures) if names is None else set(self.weights) <= names


def entry_of(checkpoint: Checkpoint, asked: str | None = None, base: str | None = None) -> Entry | None:
    """The entry that `asked` names, else the one that the checkpoint is known by; None where there is none.

    An adapter that is not known itself, and brings no head of another task, is what its base is, or the `base` given.

    Raises UsageError for a name that is not there, and ModelError where several entries claim the checkpoint.
    """
    from rmbench.plugins import did_you_mean

    if asked == NONE:
        return None
    table = entries()
    if asked is not None:
        if asked not in table:
            raise UsageError(
                f"entry={asked!r}: no known model is called so{did_you_mean(asked, table)}; see rmbench list models"
            )
        return table[asked]
    adapter = checkpoint.json("adapter_config.json")
    if (claimed := _claiming(checkpoint)) is not None or adapter is None:
        return claimed
    try:
        of_base = _claiming(base_of(checkpoint, adapter, base))
    except ModelError:  # that is said where the adapter is opened
        return None
    heads = {"SEQ_CLS": "classifier", "TOKEN_CLS": "process"}
    is_alike = of_base is not None and of_base.family == heads.get(str(adapter.get("task_type")), of_base.family)
    return of_base if is_alike else None


def _claiming(checkpoint: Checkpoint) -> Entry | None:
    """The entry that a checkpoint is known by. Raises ModelError where several claim it."""
    own, ours = (dict(tables) for tables in _tables())
    for one in (own, ours):
        claims = [entry for entry in one.values() if entry.is_of(checkpoint)]
        claims = [entry for entry in claims if entry.names(checkpoint)] or claims
        claims = [entry for entry in claims if entry.architectures] or claims  # they say more than weights alone
        if len(claims) > 1:
            names = " and ".join(entry.name for entry in claims)
            raise ModelError(f"{checkpoint.id} is what {names} claim in the table of known models; ?entry=NAME chooses")
        if claims:
            return claims[0]
    return None


def entries() -> dict[str, Entry]:
    """All entries by name, the user's own first. Raises UsageError for a table that cannot be read."""
    own, ours = _tables()
    if twice := own.keys() & ours.keys():
        raise UsageError(f"{_OWN_TABLE}: the entry {min(twice)!r} is in rmbench's own table; give it another name")
    return {**own, **ours}


def _tables() -> tuple[dict[str, Entry], dict[str, Entry]]:
    path = os.environ.get(_OWN_TABLE)
    if not path:
        return {}, _shipped()
    try:
        table = bounded.toml(bounded.read_text(Path(path)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{_OWN_TABLE}: {Path(path).name} cannot be read as TOML: {reason}") from None
    read = _read(table, Path(path).name)
    for entry in read.values():
        _check_own(entry, Path(path).name)
    return read, _shipped()


def _check_own(entry: Entry, place: str) -> None:
    """Raises UsageError for a name that cannot be chosen, and for a family that reads no entries."""
    from rmbench.plugins import MODELS, did_you_mean, load, names

    if entry.name == NONE:
        raise UsageError(f"{place}, {NONE}: ?entry={NONE} leaves the table aside; give the entry another name")
    if entry.family not in names(MODELS):
        close = did_you_mean(entry.family, names(MODELS))
        raise UsageError(f"{place}, {entry.name}: family = {entry.family!r}, which there is not{close}")
    family = load(MODELS, entry.family)
    if (reading := getattr(family, "ENTRIES_OF", entry.family)) != entry.family:
        told = f"expected {reading!r}, which reads the checkpoint itself; then {entry.family}:SOURCE reads it so"
        raise UsageError(f"{place}, {entry.name}: family = {entry.family!r}; {told}")
    if "entry" not in family.OPTIONS:
        raise UsageError(f"{place}, {entry.name}: family = {entry.family!r}; expected one that reads checkpoints")
    for name in entry.options:
        if name in _OF_THE_USER:
            raise UsageError(f"{place}, {entry.name}: options.{name} is no fact of a model; give it with the model")


@cache
def _shipped() -> dict[str, Entry]:
    text = resources.files("rmbench.models").joinpath("known.toml").read_text(encoding="utf-8")
    return _read(bounded.toml(text), "known.toml")


_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("family", "template", "system", "refused"), (str, "a text")),
    **dict.fromkeys(("ids", "architectures", "weights"), (list, "a list of texts")),
    **dict.fromkeys(("options", "rule"), (dict, "a table")),
    "sources": (dict, "a table of texts"),
    **dict.fromkeys(("no_system", "verified"), (bool, "true or false")),
}


def _read(table: Mapping[str, Any], place: str) -> dict[str, Entry]:
    from rmbench.plugins import did_you_mean

    read: dict[str, Entry] = {}
    keys = [one.name for one in fields(Entry) if one.name != "name"]
    for name, given in table.items():
        if not isinstance(given, dict):
            raise UsageError(f"{place}: {name} = {given!r}; expected a table, an entry of a known model")
        for key, value in given.items():
            if key not in keys:
                raise UsageError(
                    f"{place}, {name}: unknown key {key!r}{did_you_mean(key, keys)}; expected {', '.join(keys)}"
                )
            kind, expected = _KINDS[key]
            texts = kind is list or key == "sources"
            held = value.values() if isinstance(value, dict) else value
            if not isinstance(value, kind) or (texts and not all(isinstance(one, str) for one in held)):
                raise UsageError(f"{place}, {name}: {key} = {value!r}; expected {expected}")
        if "family" not in given or not any(given.get(key) for key in ("ids", "architectures", "weights")):
            raise UsageError(f"{place}, {name}: expected a family, and ids, architectures or weights to know it by")
        if given.get("no_system") and given.get("system") is not None:
            raise UsageError(f"{place}, {name}: system and no_system; expected one of them")
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        }
        read[name] = Entry(name=name, **values)
    return read


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _all(value: Any, each: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(each, value))


# What a key of a rule takes, as messages say it
_TAKES: Mapping[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str),
    "a number": _is_number,
    "a number above 0": lambda value: _is_number(value) and value > 0,
    "a whole number": _is_whole,
    "a whole number above 0": lambda value: _is_whole(value) and value > 0,
    "true or false": lambda value: isinstance(value, bool),
    "a table": lambda value: isinstance(value, Mapping),
    "a table of whole numbers": lambda value: isinstance(value, Mapping) and all(map(_is_whole, value.values())),
    "a list of texts": lambda value: _all(value, lambda one: isinstance(one, str)),
    "a list of whole numbers": lambda value: _all(value, _is_whole),
}


def check_rule(rule: Mapping[str, Any], takes: Mapping[str, str], name: str, needed: Collection[str] = ()) -> None:
    """Raises UsageError for a key that an entry's rule does not have, a value of another kind, and one that it lacks.

    `takes` says of each key what it takes, in the words of a message; an empty one is checked elsewhere.
    """
    from rmbench.plugins import did_you_mean

    for key, value in rule.items():
        if key not in takes:
            close = did_you_mean(key, takes)
            raise UsageError(
                f"{name}: unknown key {key!r} in the rule of its entry{close}; expected {', '.join(takes)}"
            )
        if takes[key] and not _TAKES[takes[key]](value):
            raise UsageError(f"{name}: {key} = {value!r} in the rule of its entry; expected {takes[key]}")
    for key in needed:
        if key not in rule:
            raise UsageError(f"{name}: no {key!r} in the rule of its entry, which needs one; expected {takes[key]}")


def _names_of(checkpoint: Checkpoint) -> set[str] | None:
    """The names of a checkpoint's weights, also of those beside them; None where only loading tells."""
    if checkpoint.commit is not None:
        index = checkpoint.json(SAFE_INDEX) or {}
        named = index.get("weight_map")
        return set(named) if isinstance(named, dict) else None
    if not has_weights(checkpoint):
        return set()
    beside = checkpoint.file(BESIDE)
    return set(shapes_of(checkpoint, [*weight_paths(checkpoint), *([] if beside is None else [beside])]))
