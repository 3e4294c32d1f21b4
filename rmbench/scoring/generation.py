"""From generations to responses: what is known already, and what is left for the policy to write."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from typing import Any

from rmbench.errors import ModelError, RmbenchError
from rmbench.models.base import subject_of
from rmbench.policies.base import Generation, Policy
from rmbench.policies.outputs import Outputs
from rmbench.scoring.keys import distinct
from rmbench.scoring.store import Store
from rmbench.scoring.usage import Progress, Usage
from rmbench.types import Response

_KEY_VERSION = 1


def generate(
    policy: Policy,
    generations: Sequence[Generation],
    *,
    store: Store | None = None,
    journal: Store | None = None,
    progress: Progress | None = None,
    usage: Usage | None = None,
) -> list[Response | None]:
    """One response per generation, in order; None where the policy leaves one out.

    Each response is kept, in `store` for a policy with a fingerprint and else in `journal`, as soon as it is there, so
    that only what a batch had not finished is written again. Raises ModelError where the policy fails, or answers what
    nobody asked.
    """
    usage = Usage() if usage is None else usage
    if isinstance(policy, Outputs):  # a file is its own store
        usage.requests += len(generations)
        usage.unique += len(generations)
        found = dict(policy.generate(generations))
        return [found.get(index) for index in range(len(generations))]
    kept_in = store if policy.fingerprint else journal
    identity = _identity(policy)
    keys = [generation_key(identity, generation) for generation in generations]
    positions = distinct(keys)
    stored = {} if kept_in is None else kept_in.get(list(positions))
    known: dict[bytes, Response] = {key: _from_json(fields) for key, fields in stored.items()}
    todo = {key: generations[places[0]] for key, places in positions.items() if key not in known}
    usage.requests += len(generations)
    usage.unique += len(positions)
    usage.stored += len(known)
    if todo:
        _write(policy, todo, known, kept_in, progress, usage)
    return [known.get(key) for key in keys]


def generation_key(identity: str, generation: Generation) -> bytes:
    """sha256 of canonical JSON of everything that can change the response: [32] bytes."""
    return sha256(
        json.dumps(
            [
                "generation",
                _KEY_VERSION,
                identity,
                [[message.role, message.content] for message in generation.prompt],
                generation.sample,
                generation.cap,
                dict(generation.sampling),
            ],
            sort_keys=True,
            separators=(",", ":"),
        ).encode()
    ).digest()


def _write(
    policy: Policy,
    todo: dict[bytes, Generation],
    known: dict[bytes, Response],
    store: Store | None,
    progress: Progress | None,
    usage: Usage,
) -> None:
    """Has the policy write `todo` and adds what it wrote to `known`, each response once it is stored."""
    keys, asked, name = list(todo), list(todo.values()), subject_of(policy).id
    if progress:
        progress.begin(len(todo), len(known))
    started = time.perf_counter()
    try:
        for index, response in policy.generate(asked):
            if not 0 <= index < len(keys) or keys[index] in known:
                raise ModelError(f"{name} wrote response {index} of {len(keys)} twice or unasked")
            if store is not None:
                store.put([(keys[index], _to_json(response))])
            known[keys[index]] = response
            usage.scored += 1
            usage.tokens += response.tokens or 0
            if progress:
                progress.advance(1)
    except RmbenchError:
        raise
    except Exception as error:
        raise ModelError(f"{name} failed with {type(error).__name__}: {error}; what it wrote is kept") from error
    finally:
        usage.seconds += time.perf_counter() - started
        if progress:
            progress.end()


def _identity(policy: Policy) -> str:
    """What a stored response belongs to. Another transformers may run the same weights in another way."""
    if policy.fingerprint is None:
        return f"{subject_of(policy).id} without a fingerprint"
    return f"{policy.fingerprint} transformers {version('transformers')}"


def _to_json(response: Response) -> list[Any]:
    return [response.text, response.tokens, response.finish, response.cap]


def _from_json(fields: list[Any]) -> Response:
    text, tokens, finish, cap = fields
    return Response(text, tokens=tokens, finish=finish, cap=cap)
