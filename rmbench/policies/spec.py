"""POLICY specs, written as MODEL specs are: `outputs:FILE`, `local:org/name@revision?option=value`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmbench import plugins
from rmbench.errors import UsageError
from rmbench.models.base import Option
from rmbench.models.spec import Spec, open_family, read_spec, started, with_options
from rmbench.plugins import POLICIES, did_you_mean
from rmbench.policies.base import OpenedPolicy, Policy

_NEEDS = ("generate", "fingerprint")


def parse(text: str) -> Spec:
    """Takes a POLICY apart. Raises UsageError where it names none.

    >>> parse("local:org/name@main?dtype=float32").options
    {'dtype': 'float32'}
    """
    return read_spec(text, POLICIES, _no_family)


def open_policy(policy: str | Spec | object, **options: Any) -> Policy | OpenedPolicy:
    """A policy ready to be asked, without its weights: who it is and its fingerprint.

    `policy` is a spec or an object with the protocol's methods; `options` are those that its kind declares, and
    `revision`. Raises UsageError for a spec or option that does not exist and where both disagree, ModelError and
    DataError for what cannot be opened.
    """
    if isinstance(policy, str):
        policy = parse(policy)
    if isinstance(policy, Spec) and policy.model is None:
        opened = open_family(with_options(policy, POLICIES, **options), POLICIES)
        return _checked(opened, f"what policy {policy.family!r} opened")
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"{name}={value!r} cannot change a policy that is loaded already")
    return _checked(policy.model if isinstance(policy, Spec) else policy, "the policy")


def load_policy(policy: str | Spec | object, **options: Any) -> Policy:
    """A policy ready to write, its weights loaded where it has some. Takes and raises what `open_policy` does."""
    opened = open_policy(policy, **options)
    loaded: Policy = started(opened) if isinstance(opened, OpenedPolicy) else opened
    return loaded


def declared(policy: str | Spec | object) -> Mapping[str, Option]:
    """The options that the kind of a policy declares; an object in memory has none."""
    spec = parse(policy) if isinstance(policy, str) else policy
    if not isinstance(spec, Spec) or spec.model is not None:
        return {}
    options: Mapping[str, Option] = plugins.load(POLICIES, spec.family).OPTIONS
    return options


def _checked(policy: Any, what: str) -> Policy | OpenedPolicy:
    if not any(hasattr(policy, method) for method in ("generate", "started")):
        raise UsageError(
            f"{what}: expected a spec or an object with {' and '.join(_NEEDS)}, got {type(policy).__name__}"
        )
    if not hasattr(policy, "fingerprint"):
        raise UsageError(f"{what}, a {type(policy).__name__}, has no fingerprint; a policy has {', '.join(_NEEDS)}")
    opened: Policy | OpenedPolicy = policy
    return opened


def _no_family(source: str, revision: str | None, options: Mapping[str, Any]) -> str:
    raise UsageError(
        f"unknown policy {source!r}{did_you_mean(source, plugins.names(POLICIES))}; write outputs:FILE for responses "
        "that are written already, or local:CHECKPOINT (a folder or a hub id)"
    )
