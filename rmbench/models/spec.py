"""MODEL specs: `family:source@revision?option=value&option=value`, a hub id or folder, a built-in name, a `.toml` file.

`NAME=SPEC` names the model in results. Options follow the last `?`; what exists as a path is a path, whatever stands in
its name; a family whose `SOURCE` is "url" takes all behind its colon. One whose `SOURCE` is "members" is made of
others, apart by commas, and one whose it is "member" of one: `transform:ensemble:A,B?how=mean?how=clip&low=0`. The last
`?` is the outer one's, what it does not declare there goes to the members that do, and a revision belongs to a member;
a member with commas or options of its own may stand in brackets: `ensemble:A,(transform:B?how=sigmoid)?how=min`.
What does not fit in a word stands in a file with `family`, `source`, `revision`, `name`, a table `options`, and
`members`, each a spec or a table like the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, cast

from rmbench import bounded, plugins
from rmbench.checkpoints.fingerprint import locate
from rmbench.errors import ModelError, UsageError
from rmbench.models.base import SHAPES, Model, Opened, Option, subject_of
from rmbench.models.borrowed import READING, UNDERSTOOD, Borrowed, is_lent, lend
from rmbench.models.callables import CALLS, PythonCallable
from rmbench.models.known import entry_of
from rmbench.models.options import Options, option_of, read_options
from rmbench.models.value_head import head_of, unread_heads
from rmbench.plugins import MODELS, PluginGroup, did_you_mean

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_NAMED = re.compile(r"([\w.-]+(?:/[\w.-]+)?)=(.+)", re.DOTALL)
_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
_IN_BRACKETS = re.compile(r"((?:[\w./-]+=)?)\((.*)\)", re.DOTALL)
_KEY = re.compile(r"[A-Za-z_]\w*")
_WORD = re.compile(r"([^:@?]*)([:@?]?)(.*)", re.DOTALL)
_HELD: list[AbstractContextManager[Any]] = []
_TEXTS = ("family", "source", "revision", "name")  # the keys of a file that hold texts
_OF_OTHERS = {"members": "MEMBER,MEMBER", "member": "MEMBER"}  # families made of others, and what they are written of
_DEEPEST = 32
_DEPTH = ContextVar("how many specs a spec is a member of", default=0)
_FamilyOf = Callable[[str, str | None, Mapping[str, Any]], str]
_EXPECTED = f"a model is a spec, a Path, a function, an object with a protocol's methods, {UNDERSTOOD}"


@dataclass(frozen=True, slots=True)
class Spec:
    """A spec taken apart. `revision` is a branch, tag or commit on the hub; `options` are values, not texts.

    `members` are those of a family that combines models. `model` is an object in memory that stands for itself. `text`
    is what was parsed, and no part of what the spec means.
    """

    family: str
    source: str = ""
    revision: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    name: str | None = None
    text: str = field(default="", compare=False)
    members: tuple[Spec, ...] = ()
    model: Any = None

    def __str__(self) -> str:
        """As one word, which `parse` reads as the same spec; the text where no word says all of it."""
        if self.members or self.model is not None:
            return self.text
        options = "&".join(f"{name}={_written(value)}" for name, value in self.options.items())
        return (
            (f"{self.name}=" if self.name else "")
            + self.family
            + (f":{self.source}" if self.source else "")
            + (f"@{self.revision}" if self.revision else "")
            + (f"?{options}" if options else "")
        )


def parse(text: str) -> Spec:
    """Takes a MODEL apart; a bare id or folder gets its family from its config. Raises UsageError, ModelError.

    >>> spec = parse("baseline=random?seed=7")
    >>> spec.family, spec.options, spec.name
    ('random', {'seed': 7}, 'baseline')
    """
    return read_spec(text, MODELS, _family_of)


def open_model(model: str | Spec | object, **options: Any) -> Model | Opened:
    """A model ready to be asked, without its weights: what it answers, who it is and its fingerprint.

    `model` is a spec, a Path, `(model, tokenizer)`, a text-classification pipeline, an object with the methods of a
    protocol, or a function as `rmbench.models.callables` takes it; `options` are those that its family declares, and
    `revision`. Raises UsageError for a spec or option that does not exist and where both disagree, and for an object
    that is none of these, ModelError for a model that cannot be opened.

    >>> open_model("random", seed=7).fingerprint
    'random:1:7'
    """
    spec = spec_of(model)
    if spec.model is not None:
        return _in_memory(spec.model, options)
    opened: Model | Opened = open_family(with_options(spec, **options), MODELS)
    _check(opened, f"what family {spec.family!r} opened")
    return opened


def load_model(model: str | Spec | object, **options: Any) -> Model:
    """A model ready to score, its weights loaded where it has some. Takes and raises what `open_model` does.

    Raises UsageError for a module in memory, which is borrowed no longer than it is used.

    >>> load_model("length").fingerprint
    'length:1'
    """
    opened = open_model(model, **options)
    if isinstance(opened, Borrowed):
        raise UsageError(f"{opened.subject.id} is loaded already; give it to evaluate or score as it is")
    loaded: Model = started(opened) if isinstance(opened, Opened) else opened
    return loaded


def spec_of(model: str | Spec | object) -> Spec:
    """A spec of anything that is a model: a text is parsed, an object in memory stands for itself.

    A Path is a path, whatever else is called so. Raises UsageError where there is nothing at it.
    """
    if isinstance(model, Spec):
        return model
    if isinstance(model, Path):
        if not model.exists():
            raise UsageError(f"{model}: no such file or folder")
        return parse(str(model))
    if model is None:
        raise UsageError(f"{_EXPECTED}; got None")
    return parse(model) if isinstance(model, str) else Spec("object", text=subject_of(model).id, model=model)


def declared(model: str | Spec | object) -> Mapping[str, Option]:
    """The options that the family of a model declares, and those of its members.

    Of what is in memory, functions and modules have some, and other objects none.
    """
    spec = spec_of(model)
    if spec.model is not None:
        return READING if _is_lent(spec.model) else CALLS if _is_function(spec.model) else {}
    of_members = {name: option for member in spec.members for name, option in declared(member).items()}
    return {**of_members, **_options_of(spec.family, MODELS)}


def with_seed(model: str | Spec | object, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, and a run's seed among them where the model declares a seed, and neither it nor a member has one."""
    spec = spec_of(model)
    own = "seed" in options or _has_seed(spec) or "seed" not in declared(spec)
    return dict(options) if own else {**options, "seed": seed}


def _has_seed(spec: Spec) -> bool:
    return "seed" in spec.options or any(map(_has_seed, spec.members))


def elsewhere(model: str | Spec | object) -> Spec | None:
    """What another process opens a model by, without the options of this run; None for an object in memory."""
    spec = spec_of(model)
    if spec.model is not None:
        return None
    own = _options_of(spec.family, MODELS)
    return replace(spec, options={name: value for name, value in spec.options.items() if not own[name].of_run})


def runs_forwards(model: str | Spec | object) -> bool:
    """Whether forwards may be run for it: it is started, has members, or is own code, which can be anything."""
    return spec_of(model).family in ("python", "object") or bool(declared(model).keys() & {"device", "members"})


# For models and policies alike


def read_spec(text: str, group: PluginGroup, family_of: _FamilyOf) -> Spec:
    """Takes a spec apart; `family_of` gives the family of a source, revision and options that stand without one.

    Raises UsageError where it means nothing, or its members have members without end.
    """
    if _DEPTH.get() > _DEEPEST:
        raise UsageError(f"{text:.60}: members of members, more than {_DEEPEST} deep; expected no file to be its own")
    depth = _DEPTH.set(_DEPTH.get() + 1)
    try:
        return _read(text, group, family_of)
    finally:
        _DEPTH.reset(depth)


def _read(text: str, group: PluginGroup, family_of: _FamilyOf) -> Spec:
    path = _exists(text) or _exists(text.rpartition("?")[0])
    named = None if path or text in plugins.names(group) else _NAMED.fullmatch(text)
    name, word = named.groups() if named else (None, text)
    if word.endswith(".toml") and (_exists(word) or not set(word) & {":", "?"}):
        spec = _file(Path(word), group, family_of)
    else:
        spec = _word(word, group, family_of)
    if name and spec.name not in (None, name):
        raise UsageError(f"{group.thing} {text!r} is named {name!r} here and {spec.name!r} in {Path(word).name}")
    return replace(spec, name=_checked_name(name or spec.name), text=text)


def with_options(spec: Spec, group: PluginGroup = MODELS, **options: Any) -> Spec:
    """The spec with more options, where None is none, a revision or members.

    What its family does not declare goes to those of its members that do. Raises UsageError for an option that nobody
    declares, for a value that means nothing, and where the spec says otherwise, and what a family that has a
    `check(source, revision)` finds wrong with these before anything is run.
    """
    revision, members = options.pop("revision", None), options.pop("members", None)
    if revision and _source(spec.family, group) != "required":
        raise UsageError(f"revision={revision!r}: family {spec.family!r} has no revisions")
    if revision and spec.revision and revision != spec.revision:
        raise UsageError(f"{spec.text!r} asks for revision {spec.revision!r}, the option for {revision!r}")
    if (check := getattr(plugins.load(group, spec.family), "check", None)) is not None:
        check(spec.source, spec.revision)
    own = _options_of(spec.family, group)
    theirs = {name for member in spec.members for name in declared(member)} - own.keys()
    of_members = {name: options.pop(name) for name in theirs & options.keys()}
    given = read_options(options, own, f"family {spec.family!r}")
    for name, value in given.items():
        if name in spec.options and spec.options[name] != value:
            raise UsageError(f"{spec.text!r} asks for {name}={spec.options[name]!r}, the option for {name}={value!r}")
    return replace(
        spec,
        revision=spec.revision or revision,
        options={**spec.options, **given},
        members=tuple(_with_some(spec_of(member), of_members) for member in members or spec.members),
    )


def _with_some(member: Spec, options: Mapping[str, Any]) -> Spec:
    """A member with those of the options that it declares."""
    declared_here = {name: value for name, value in options.items() if name in declared(member)}
    return with_options(member, **declared_here) if declared_here else member


def open_family(spec: Spec, group: PluginGroup) -> Any:
    """What the family of the spec opens, called by its name where it has one."""
    family, options = plugins.load(group, spec.family), _options_of(spec.family, group)
    given = Options(spec.options, options)
    if spec.members:
        option_of("members", options, f"family {spec.family!r}")
        given["members"] = spec.members
    opened = family.open(spec.source, given, spec.revision)
    return opened if spec.name is None else _named(opened, spec.name)


def started(opened: Any) -> Any:
    """A model at rest with its weights, held until the program ends where its family has no start without an end."""
    if hasattr(opened, "start"):
        return opened.start()
    context = opened.started()
    _HELD.append(context)
    return context.__enter__()


def _word(text: str, group: PluginGroup, family_of: _FamilyOf) -> Spec:
    families, taken = plugins.names(group), _WORD.fullmatch(text)
    family, mark, rest = taken.groups() if taken else ("", "", text)
    if family in families and (mark in ("", ":") or not _exists(text)):
        return _of_family(family, mark, rest, text, group)
    source, revision, pairs = _split(text)
    if mark == ":" and not _exists(source):
        raise UsageError(
            f"unknown {group.noun} {family!r}{did_you_mean(family, families)}; {group.nouns}: {', '.join(families)}"
        )
    family = family_of(source, revision, pairs)
    return Spec(family, source, revision, read_options(pairs, _options_of(family, group), f"family {family!r}"))


def _of_family(family: str, mark: str, rest: str, text: str, group: PluginGroup) -> Spec:
    kind, options, owner = _source(family, group), _options_of(family, group), f"family {family!r}"
    if kind == "none":
        pairs = {} if not mark else _pairs(rest) if mark == "?" else None
        if pairs is None:
            raise UsageError(
                f"{group.thing} {text!r}: {family} is a {group.thing} by itself, without source or revision"
            )
        return Spec(family, options=read_options(pairs, options, owner))
    if kind in _OF_OTHERS and mark != ":":
        return Spec(family, options=read_options(_pairs(rest) or {} if mark == "?" else {}, options, owner))
    if mark != ":" or not rest:
        raise UsageError(f"{group.thing} {text!r} names no source; write {family}:{_OF_OTHERS.get(kind, 'SOURCE')}")
    if kind == "url":
        return Spec(family, rest)
    if kind in _OF_OTHERS:
        return _of_others(family, rest, text, group)
    source, revision, pairs = _split(rest)
    return Spec(family, source, revision, read_options(pairs, options, owner))


def _of_others(family: str, rest: str, text: str, group: PluginGroup) -> Spec:
    """A family that is made of others: its members, and behind the last `?` its options and theirs."""
    words, mark, tail = rest.rpartition("?")
    inside = tail.count("(") != tail.count(")")  # of a member in brackets
    pairs = _pairs(tail) if mark and not inside and not _exists(rest) else None
    if pairs is None:
        words, pairs = rest, {}
    form = _OF_OTHERS[_source(family, group)]
    members = [_unwrapped(word) for word in (_apart(words) if "," in form else [words])]
    if not all(members):
        raise UsageError(f"{group.thing} {text!r}: a member without a name; expected {family}:{form}")
    for word in members:
        if word.count("(") != word.count(")") and not _exists(word):
            raise UsageError(f"{group.thing} {text!r}: member {word!r} has a bracket open; expected one ) for each (")
    spec = Spec(family, members=tuple([read_spec(word, group, _family_of) for word in members]))
    options = {**declared(spec), **_options_of(family, group)}
    for name in pairs:
        option_of(name, options, f"family {family!r}")
    return with_options(spec, group, **pairs)


def _unwrapped(word: str) -> str:
    """A member without the brackets around it, or around all behind its name."""
    whole = _IN_BRACKETS.fullmatch(word)
    return word if whole is None else "".join(whole.groups())


def _apart(words: str) -> list[str]:
    """The parts of a text between its commas, but for those in brackets."""
    parts = [""]
    for piece in words.split(","):
        if parts[-1].count("(") > parts[-1].count(")"):
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return [part.strip() for part in parts[1:]]


def _split(text: str) -> tuple[str, str | None, dict[str, Any]]:
    """Source, revision and the texts of the options. Raises UsageError."""
    if _exists(text):
        return text, None, {}
    source, mark, tail = text.rpartition("?")
    pairs = _pairs(tail) if mark else None
    if pairs is None:
        source, pairs = text, {}
    if "@" not in source or _exists(source):
        return source, None, pairs
    source, _, revision = source.rpartition("@")
    if not source or not revision:
        raise UsageError(f"{text!r}: expected a source before the @ and a revision behind it")
    return source, revision, pairs


def _pairs(tail: str) -> dict[str, Any] | None:
    """`key=value&key=value` as a mapping, a key alone as True; None where it is something else."""
    pairs: dict[str, Any] = {}
    for part in tail.split("&"):
        key, equals, value = part.partition("=")
        if not _KEY.fullmatch(key):
            return None
        if key in pairs:
            raise UsageError(f"option {key!r} is given twice in ?{tail}")
        if equals and not value:
            raise UsageError(f"option {key!r} has no value in ?{tail}; expected {key}=VALUE")
        pairs[key] = value if equals else True
    return pairs


def _file(path: Path, group: PluginGroup, family_of: _FamilyOf) -> Spec:
    try:
        table = bounded.toml(bounded.read_text(path))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path.name} cannot be read as TOML: {reason}") from None
    return _table(table, path.name, group, family_of)


def _table(table: Any, place: str, group: PluginGroup, family_of: _FamilyOf) -> Spec:
    if not isinstance(table, dict):
        raise UsageError(f"{place}: expected a spec or a table, got {table!r}")
    keys = (*_TEXTS, "options", "members")
    for key, value in table.items():
        if key not in keys:
            raise UsageError(f"{place}: unknown key {key!r}{did_you_mean(key, keys)}; expected {', '.join(keys)}")
        wanted = str if key in _TEXTS else dict if key == "options" else list
        if not isinstance(value, wanted) or value == "":
            told = {str: "a text", dict: "a table", list: "a list of specs"}[wanted]
            raise UsageError(f"{place}: {key} = {value!r}; expected {told}")
    source, revision = table.get("source", ""), table.get("revision")
    if not source and "family" not in table:
        raise UsageError(f"{place}: neither family nor source; expected at least one of them")
    family = table.get("family") or family_of(source, revision, table.get("options", {}))
    _check_source(family, source, revision, place, group)
    options = read_options(table.get("options", {}), _options_of(family, group), f"family {family!r}")
    members = tuple(
        read_spec(member, group, family_of)
        if isinstance(member, str)
        else _table(member, f"{place}, member {number}", group, family_of)
        for number, member in enumerate(table.get("members", ()), 1)
    )
    return Spec(family, source, revision, options, _checked_name(table.get("name")), place, members)


def _check_source(family: str, source: str, revision: str | None, place: str, group: PluginGroup) -> None:
    kind = _source(family, group)
    if kind == "none" and (source or revision):
        raise UsageError(f"{place}: {family} is a {group.thing} by itself, without source or revision")
    if kind in _OF_OTHERS and (source or revision):
        raise UsageError(f"{place}: family {family!r} is made of others; expected members, a list of specs")
    if kind not in ("none", *_OF_OTHERS) and not source:
        raise UsageError(f"{place}: family {family!r} needs a source")


def _source(family: str, group: PluginGroup) -> str:
    """Whether a family needs a source, has none, or takes a URL."""
    kind: str = getattr(plugins.load(group, family), "SOURCE", "required")
    kinds = ("required", "none", "url", *_OF_OTHERS)
    if kind not in kinds:
        raise UsageError(f"family {family!r} has SOURCE = {kind!r}; expected one of {', '.join(kinds)}")
    return kind


def _options_of(family: str, group: PluginGroup) -> Mapping[str, Option]:
    options: Mapping[str, Option] = plugins.load(group, family).OPTIONS
    return options


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _checked_name(name: str | None) -> str | None:
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(f"name {name!r}: a model's id in results is letters, digits, . _ and -, as in org/model")
    return name


def _exists(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):  # too long for a path, or a NUL in it
        return False


def _named(opened: Any, name: str) -> Any:
    subject = replace(subject_of(opened), id=name)
    if is_dataclass(opened) and any(one.name == "subject" for one in fields(opened)):
        return replace(opened, subject=subject)  # type: ignore[type-var]
    opened.subject = subject
    return opened


def _in_memory(model: Any, options: Mapping[str, Any]) -> Model | Opened:
    own = declared(Spec("object", model=model))
    for name, value in options.items():
        if value is not None and name not in own:
            raise UsageError(f"{name}={value!r} cannot change a model that is loaded already")
    given = read_options({name: value for name, value in options.items() if name in own}, own, "a model in memory")
    if _is_lent(model):
        return cast(Opened, lend(model, given))
    if isinstance(model, type):
        raise UsageError(f"a model is an instance, not the class {model.__name__}")
    if _is_function(model):
        return PythonCallable(model, options=given)
    if not any(hasattr(model, method) for method in SHAPES):
        raise UsageError(f"{_EXPECTED}; got {type(model).__name__}")
    _check(model, "the model")
    opened: Model | Opened = model
    return opened


def _is_lent(model: object) -> bool:
    return is_lent(model) and not hasattr(model, "answers")


def _is_function(model: object) -> bool:
    """Whether an object is called for its rewards; one that says what it answers may also be a model in the making."""
    said = isinstance(model, FunctionType | MethodType) or getattr(model, "answers", None) is None
    return callable(model) and said and not any(hasattr(model, method) for method in SHAPES)


def _check(model: object, what: str) -> None:
    """Raises UsageError that names the first attribute that a model of its kind has and this one has not."""
    method = next((method for method in SHAPES if hasattr(model, method)), None)
    if method is None:
        raise UsageError(f"{what}, a {type(model).__name__}, is no model: it has none of {', '.join(SHAPES)}")
    for attribute in SHAPES[method]:
        if not hasattr(model, attribute):
            raise UsageError(
                f"{what}, a {type(model).__name__}, has no {attribute}; a model with {method} has "
                f"{', '.join(SHAPES[method])}"
            )


def _family_of(source: str, revision: str | None, options: Mapping[str, Any]) -> str:
    path = Path(source)
    if path.is_file():
        raise UsageError(f"{source!r} is a file; to look its scores up write scores:{source}")
    if not path.is_dir() and not _HUB_ID.fullmatch(source):
        alone = _sourceless()
        raise UsageError(
            f"unknown model {source!r}{did_you_mean(source, plugins.names(MODELS))}; a model is {', '.join(alone)}, "
            "a folder, a hub id (org/name) or family:source"
        )
    checkpoint = locate(source, revision)
    config = checkpoint.json("adapter_config.json") or checkpoint.json("config.json")
    if config is None:
        raise ModelError(f"{source}: no config.json or adapter_config.json; a checkpoint has one")
    if (entry := entry_of(checkpoint, options.get("entry"), options.get("base"))) is not None:
        return entry.family
    named, code = config.get("architectures"), config.get("auto_map")
    architectures = [str(name) for name in named] if isinstance(named, list) else []
    if config.get("task_type") == "SEQ_CLS" or "AutoModelForSequenceClassification" in (
        code if isinstance(code, dict) else ()
    ):
        return "classifier"
    if any(name.endswith("ForSequenceClassification") for name in architectures):
        return "classifier"
    if head_of(checkpoint) is not None:
        return "value_head"
    if config.get("task_type") == "TOKEN_CLS" or any(name.endswith("ForTokenClassification") for name in architectures):
        return "process"
    stated = ", ".join(architectures) or "no architecture"
    if config.get("peft_type") is not None:
        stated = f"an adapter with task_type {config.get('task_type')!r}"
    raise UsageError(
        f"{source!r} does not say what family it is ({stated} in its config, no sequence classification head); "
        f"write FAMILY:{source} with one of {', '.join(plugins.names(MODELS))}{unread_heads(checkpoint)}"
    )


def _sourceless() -> list[str]:
    """Families that are a model by their name alone, of those that can be loaded."""
    alone = []
    for name in plugins.names(MODELS):
        try:
            alone += [name] if _source(name, MODELS) == "none" else []
        except Exception:  # noqa: S112  a broken plugin is told of where it is asked for
            continue
    return alone
