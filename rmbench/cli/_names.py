"""What the models of one command are called, so that no two of them share a name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from rmbench.errors import UsageError

_OUTSIDE = re.compile(r"[^\w.-]+")
_SEPARATORS, _OF_MEMBERS = re.compile(r"[=:?@&]"), re.compile(r"[=:?@&,]")


def told_apart(specs: Sequence[Any], ids: Sequence[str]) -> list[str]:
    """The ids, and where two are alike, each with as much of its spec as differs: folders, the revision, options.

    `local/checkpoint-500` of `runA/checkpoint-500` beside that of `runB` is `local/runA-checkpoint-500`. Where nothing
    that a name can hold differs, the others get a hash of their specs. A spec that names its model keeps that name.
    Raises UsageError where two specs are named alike.
    """
    given = Counter(spec.name for spec in specs if spec.name)
    for name, count in given.items():
        if count > 1:
            raise UsageError(f"{count} models are called {name}; give each a name of its own, as in {name}-2=MODEL")
    most = max((len(_folders(spec.source)) for spec in specs), default=0)
    for folders in range(1, most + 2):
        names = [_name(specs, ids, at, folders) for at in range(len(ids))]
        if len(set(names)) == len(names):
            break
    times = Counter(names)
    return [
        name if times[name] == 1 or specs[at].name or at == names.index(name) else f"{name}-{_hash(specs[at])}"
        for at, name in enumerate(names)
    ]


def columns_of(specs: Sequence[str], parse: Callable[[str], Any]) -> dict[str, str]:
    """Specs by the name that each model's columns have: what it is named, else what tells it from the others.

    The same spec twice is asked once. Raises UsageError where two are named alike.
    """
    different = list(dict.fromkeys(specs))
    parsed = [parse(spec) for spec in different]
    ids = [spec.name or _column(spec) for spec in parsed]
    return dict(zip(told_apart(parsed, ids), different, strict=True))


def files_of(specs: Iterable[str]) -> list[Path]:
    """The files that specs name, as a `.toml` that describes a model or the module of own code: they are read too."""
    places: list[str] = []
    for spec in specs:
        parts = [*_SEPARATORS.split(spec), *_OF_MEMBERS.split(spec)]
        places += [spec, spec.partition("=")[2], *parts, *(f"{part.replace('.', '/')}.py" for part in parts)]
    return [Path(place) for place in dict.fromkeys(places) if place and os.path.isfile(place)]


def named(specs: Sequence[str], names: Sequence[str], parse: Callable[[str], Any]) -> dict[str, str | None]:
    """The name of each spec's model in results: that given by --name, in the order of the specs, or what tells models
    of local folders and of different options apart; None where the model's own id does."""
    if names:
        return dict(zip(specs, names, strict=True))
    parsed = [parse(spec) for spec in specs]
    ids = [spec.name or _id(spec) for spec in parsed]
    chosen = told_apart(parsed, ids)
    return {
        text: None if name == model or spec.name else name
        for text, spec, name, model in zip(specs, parsed, chosen, ids, strict=True)
    }


def _id(spec: Any) -> str:
    """What a model's id begins with, as far as its spec tells: that of a folder holds its last name alone."""
    if spec.members:
        return _of_members(spec)
    if not spec.source:
        return f"rmbench/{spec.family}"
    return f"local/{_last(spec.source)}" if Path(spec.source).exists() else _plain(spec.source)


def _column(spec: Any) -> str:
    """What a model's columns are called: what it reads, else what makes it, of others their names too."""
    if spec.members:
        return _of_members(spec).rpartition("/")[2]
    return spec.family if not spec.source or "://" in spec.source else _last(spec.source)


def _of_members(spec: Any) -> str:
    from rmbench.models.members import called
    from rmbench.models.spec import declared

    names = [(one.name or _column(one)).rpartition("/")[2] for one in spec.members]
    option = declared(spec).get("how")
    how = spec.options.get("how") or (option.default if option else None) or spec.family
    return called(spec.family, str(how), names)


def _name(specs: Sequence[Any], ids: Sequence[str], at: int, most: int) -> str:
    """An id with what tells its spec from those of the same id: up to so many folders, the revision, options."""
    spec, others = specs[at], [other for place, other in enumerate(specs) if place != at and ids[place] == ids[at]]
    if spec.name or not others:
        return ids[at]
    theirs = [_folders(other.source) for other in others]
    different = [
        folder
        for place, folder in enumerate(_folders(spec.source))
        if any(place >= len(other) or other[place] != folder for other in theirs)
    ]
    behind = [spec.revision] if any(other.revision != spec.revision for other in others) else []
    behind += [
        f"{name}-{value}" for name, value in spec.options.items() if any(o.options.get(name) != value for o in others)
    ]
    *organisation, name = ids[at].split("/")
    parts = [*different[:most][::-1], name, *(_plain(str(one)) for one in behind if one)]
    return "/".join([*organisation, "-".join(map(_plain, parts))])


def _folders(source: str) -> list[str]:
    """The names of the folders that a path lies in, the nearest first."""
    return list(Path(source).resolve().parent.parts[:0:-1]) if source and Path(source).exists() else []


def _last(source: str) -> str:
    return _plain(Path(source).resolve().name if Path(source).exists() else source)


def _plain(text: str) -> str:
    """What of a text can stand in a name."""
    return "/".join(_OUTSIDE.sub("-", part).strip("-.") for part in text.split("/")[-2:])


def _hash(spec: Any) -> str:
    return sha256(str(spec).encode()).hexdigest()[:6]
