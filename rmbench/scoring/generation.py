"""From requests to responses: what is known already, and what is left for the policy to write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from rmbench.errors import ModelError, RmbenchError
from rmbench.models.base import subject_of
from rmbench.policies.base import Policy
from rmbench.policies.outputs import Outputs
from rmbench.scoring.keys import distinct, generation_key
from rmbench.scoring.store import Store
from rmbench.scoring.tally import Progress, Tally
from rmbench.types import GenerationRequest, Response


def generate(
    policy: Policy,
    requests: Sequence[GenerationRequest],
    *,
    store: Store | None = None,
    journal: Store | None = None,
    progress: Progress | None = None,
    tally: Tally | None = None,
) -> list[Response | None]:
    """One response per request, in order; None where the policy leaves one out.

    Each response is kept, in `store` for a policy with a fingerprint and else in `journal`, as soon as it is there, so
    that only what a batch had not finished is written again. Raises ModelError where the policy fails, or answers what
    nobody asked.
    """
    tally = Tally() if tally is None else tally
    if isinstance(policy, Outputs):  # a file is its own store
        tally.requests += len(requests)
        tally.unique += len(requests)
        found = dict(policy.generate(requests))
        return [found.get(index) for index in range(len(requests))]
    kept_in = store if policy.fingerprint else journal
    identity = _identity(policy)
    keys = [generation_key(identity, request) for request in requests]
    positions = distinct(keys)
    stored = {} if kept_in is None else kept_in.get(list(positions))
    known: dict[bytes, Response] = {key: _from_json(fields) for key, fields in stored.items()}
    todo = {key: requests[places[0]] for key, places in positions.items() if key not in known}
    tally.requests += len(requests)
    tally.unique += len(positions)
    tally.stored += len(known)
    if todo:
        _write(policy, todo, known, kept_in, progress, tally)
    return [known.get(key) for key in keys]


def _write(
    policy: Policy,
    todo: dict[bytes, GenerationRequest],
    known: dict[bytes, Response],
    store: Store | None,
    progress: Progress | None,
    tally: Tally,
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
            tally.scored += 1
            tally.tokens += response.tokens or 0
            if progress:
                progress.advance(1)
    except RmbenchError:
        raise
    except Exception as error:
        raise ModelError(f"{name} failed with {type(error).__name__}: {error}; what it wrote is kept") from error
    finally:
        tally.seconds += time.perf_counter() - started
        if progress:
            progress.end()


def _identity(policy: Policy) -> str:
    """What a stored response belongs to. Another transformers may run the same weights in another way."""
    if policy.fingerprint is None:
        return f"{subject_of(policy).id} without a fingerprint"
    return f"{policy.fingerprint} transformers {version('transformers')}"


def _to_json(response: Response) -> list[Any]:
    return [response.text, response.tokens, response.finish, response.cap, *([response.top] if response.top else [])]


def _from_json(fields: list[Any]) -> Response:
    text, tokens, finish, cap, *top = fields
    return Response(text, tokens=tokens, finish=finish, cap=cap, top=top[0] if top else ())
