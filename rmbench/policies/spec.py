"""POLICY specs: `outputs:FILE`, `local:CHECKPOINT`, `local:org/name@revision`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import rmbench.policies
from rmbench.errors import UsageError
from rmbench.plugins import did_you_mean
from rmbench.policies.base import OpenedPolicy, Options, Policy


def load_policy(policy: str | Policy, **options: Any) -> Policy:
    """A policy ready to write, from a spec or an object with the protocol's methods.

    `options` are the fields of `rmbench.policies.base.Options`. Raises UsageError for a spec or option that does not
    exist, ModelError and DataError for what cannot be loaded.
    """
    unknown = set(options) - set(Options.__slots__)
    if unknown:
        name = min(unknown)
        raise UsageError(f"unknown policy option {name!r}{did_you_mean(name, Options.__slots__)}")
    if isinstance(policy, str):
        kind, source, revision = parse(policy)
        loaded: Policy = kinds()[kind].load(source, Options(**{**options, "revision": revision}))
        return loaded
    unheard = [name for name, value in options.items() if value != getattr(Options(), name)]
    if unheard:
        raise UsageError(f"{unheard[0]}={options[unheard[0]]!r} cannot change a policy that is loaded already")
    if isinstance(policy, Policy):
        return policy
    raise UsageError(f"a policy is a spec or an object with generate and fingerprint, not {type(policy).__name__}")


def open_policy(policy: str | Policy | OpenedPolicy, **options: Any) -> Policy | OpenedPolicy:
    """A policy at rest or ready, as `load_policy` takes it."""
    return policy if isinstance(policy, OpenedPolicy) else load_policy(policy, **options)


def parse(spec: str) -> tuple[str, str, str | None]:
    """Kind, source and revision of a spec. Raises UsageError where it names none."""
    kind, colon, source = spec.partition(":")
    known = kinds()
    if not colon or kind not in known:
        close = did_you_mean(kind, known) if colon else ""
        raise UsageError(f"unknown policy {spec!r}{close}; write outputs:FILE for responses that are written already, "
                         "or local:CHECKPOINT (a folder or a hub id)")  # fmt: skip
    if not source:
        raise UsageError(f"policy {spec!r} names no source; write {kind}:SOURCE")
    if kind == "outputs" or "@" not in source or Path(source).exists():
        return kind, source, None
    source, _, revision = source.rpartition("@")
    return kind, source, revision or None


def kinds() -> dict[str, Any]:
    """Name -> module with `load(source, options)`."""
    modules = {name: import_module(f"rmbench.policies.{name}") for _, name, _ in iter_modules(rmbench.policies.__path__)
               if name != "spec"}  # fmt: skip
    return {name: module for name, module in modules.items() if hasattr(module, "load")}
