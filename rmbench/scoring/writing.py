"""A policy in one run, whatever it is asked to write: what is known is never written again."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, cast

from rmbench.device import ran_on
from rmbench.errors import ModelError, RmbenchError
from rmbench.models.base import identity_of, subject_of, told
from rmbench.policies.base import OpenedPolicy, Policy
from rmbench.policies.outputs import Outputs
from rmbench.scoring.keys import generation_key, turn
from rmbench.scoring.ledger import Codec, Ledger
from rmbench.scoring.sharing import Sharing
from rmbench.scoring.usage import busy
from rmbench.types import GenerationRequest, Message, Response, ToolCall

if TYPE_CHECKING:
    from rmbench.scoring.session import Asking


class Writing:
    """A policy, or one at rest, and all that it is asked in one run."""

    def __init__(self, policy: Policy | OpenedPolicy, asking: Asking) -> None:
        self.policy, self.asking = policy, asking
        self._open = ExitStack()
        self._running: Policy | None = policy if isinstance(policy, Policy) else None
        kept = asking.store if identity_of(policy) != "none" else None
        self._ledger = Ledger(_RESPONSES, kept, fresh=asking.fresh)
        self._sharing = Sharing()

    def rest(self) -> None:
        """Gives back what a started policy holds; what it wrote stays known."""
        self._open.close()
        self._running = self.policy if isinstance(self.policy, Policy) else None

    @property
    def device(self) -> str | None:
        """What the policy is running on; None where it runs elsewhere, or nothing had to be written."""
        model = getattr(self._running, "model", None)
        return None if model is None else ran_on(model)

    def write(self, requests: Sequence[GenerationRequest]) -> list[Response | None]:
        """One response per request, in order; None where the policy leaves one out.

        Each response is kept as soon as it is there, so that only what a batch had not finished is written again.
        Raises ModelError where the policy fails, or answers what nobody asked.
        """
        usage = self.asking.usage
        if isinstance(self.policy, Outputs):  # a file is its own store
            usage.requests += len(requests)
            usage.unique += len(requests)
            responses = dict(self.policy.generate(requests))
            return [responses.get(index) for index in range(len(requests))]
        identity = self._identity()
        keys = [generation_key(identity, request) for request in requests]
        first: dict[bytes, int] = {}
        for at, key in enumerate(keys):
            first.setdefault(key, at)
        answered = self._ledger.known(sorted(first))
        todo = [key for key in first if key not in answered]
        usage.requests += len(requests)
        usage.unique += len(first)
        usage.shared += self._sharing.before(self.asking.task, first)
        usage.stored += len(answered)
        if todo:
            run = self._written(todo, [requests[first[key]] for key in todo])
            answered.update(self._ledger.run(run, len(todo), len(answered), usage, self.asking.progress))
        return [answered.get(key) for key in keys]

    def _written(
        self, keys: Sequence[bytes], requests: Sequence[GenerationRequest]
    ) -> Generator[list[tuple[bytes, Response]]]:
        name, usage = subject_of(self.policy).id, self.asking.usage
        answered = bytearray(len(keys))
        try:
            for index, response in self._started().generate(requests):
                if not 0 <= index < len(keys) or answered[index]:
                    raise ModelError(f"{name} wrote response {index} of {len(keys)} twice or unasked")
                answered[index] = 1
                usage.scored += 1
                usage.tokens += response.tokens or 0
                yield [(keys[index], response)]
        except RmbenchError:
            raise
        except Exception as error:
            raise ModelError(f"{name} failed with {told(error)}; what it wrote is kept") from error

    def _started(self) -> Policy:
        if self._running is None:
            with busy(self.asking.progress, "loading"):
                self._running = self._open.enter_context(cast(OpenedPolicy, self.policy).started(self.asking.device))
        return self._running

    def _identity(self) -> str:
        """What a stored response belongs to. Another transformers may run the same weights in another way."""
        if self.policy.fingerprint is None:
            return f"{subject_of(self.policy).id} without a fingerprint"
        return f"{self.policy.fingerprint} transformers {version('transformers')}"


def _to_json(response: Response) -> list[Any]:
    messages = response.messages
    plain = messages is not None and len(messages) == 1 and messages[0].is_plain and messages[0].role == "assistant"
    content = response.text if plain or messages is None else [turn(message) for message in messages]
    rest = [response.tokens, response.finish, response.cap]
    return [content, *rest, *([[dict(one) for one in response.top]] if response.top else [])]


def _from_json(fields: Sequence[Any]) -> Response:
    content, tokens, finish, cap, *top = fields
    if isinstance(content, list):
        content = [_message(*fields) for fields in content]
    return Response(content, tokens=tokens, finish=finish, cap=cap, top=top[0] if top else ())


def _message(
    role: str,
    content: Any,
    calls: Sequence[Any] = (),
    tool_call_id: Any = None,
    name: Any = None,
    extras: Sequence[Sequence[str]] = (),
) -> Message:
    return Message(
        role,
        content,
        [ToolCall(*call) for call in calls],
        tool_call_id,
        name,
        [(field, value) for field, value in extras],
    )


_RESPONSES: Codec[Response] = Codec(_to_json, _from_json, lambda response: True)
