"""The ways of scoring that run against each other, all from the same messages to one float a request."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import rmbench
from race.clock import Meter
from race.data import Workload
from rmbench.checkpoints.weights import quiet
from rmbench.forwards.budget import USUAL, TokenBudget
from rmbench.forwards.cost import cost_of
from rmbench.forwards.fastpath import route
from rmbench.forwards.loop import run
from rmbench.forwards.memory import held
from rmbench.forwards.plan import Bin, Way, plan
from rmbench.models.base import Encoded, TokenModel
from rmbench.scoring import Asking, Session, Store
from rmbench.types import Ask, Question, Request, Reward

BUDGET = USUAL["cpu"]  # what rmbench takes unless told otherwise
_COMMON_BATCH, _CROSS_BATCH = 8, 32  # RewardBench's default, and sentence-transformers'


@dataclass
class Sides:
    """One checkpoint as each side loads it, and a meter on the backbones of all."""

    folder: Path
    meter: Meter = field(default_factory=Meter)

    def __post_init__(self) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        self.model = loaded(self.folder)
        with quiet():
            self.whole = AutoModelForSequenceClassification.from_pretrained(self.folder).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
            self.cross = _cross_encoder(self.folder)
        # the same names and values in all of them, or the deviations mean nothing
        assert self.whole.dtype == next(iter(self.model.backbone.parameters())).dtype
        for module in (self.model.backbone, self.whole.base_model, self.cross and self.cross.model.base_model):
            if module is not None:
                self.meter.watch(module)

    def common(self, work: Workload) -> list[float]:
        """The loop of the common harness: data set order, all chosen ones before all rejected ones, eight at a time,
        padded, with a mask and whatever the model does by default.
        """
        import torch

        scores = [0.0] * len(work.requests)
        chosen = [i for i, candidate in enumerate(work.candidate) if candidate == 0]
        rejected = [i for i, candidate in enumerate(work.candidate) if candidate > 0]
        for part in (chosen, rejected):
            texts = [self._rendered(work.requests[i]) for i in part]
            for start in range(0, len(part), _COMMON_BATCH):
                batch = self.tokenizer(
                    texts[start : start + _COMMON_BATCH], padding=True, add_special_tokens=False, return_tensors="pt"
                )
                with torch.inference_mode():
                    logits = self.whole(**batch).logits[:, 0]
                for i, value in zip(part[start:], logits.tolist(), strict=False):
                    scores[i] = value
        return scores

    def cross_encoder(self, work: Workload) -> list[float]:
        """CrossEncoder.predict on messages, which it renders by the same template and sorts by length; raw logits."""
        import torch

        found = self.cross.predict(
            [_messages(request) for request in work.requests],
            batch_size=_CROSS_BATCH,
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )
        return [float(value) for value in found]

    def alone(self, work: Workload) -> list[float]:
        """One sequence at a time: no padding, no mask, no cache, the head at one position."""
        import torch

        scores = []
        for request in work.requests:
            ids = self.tokenizer(self._rendered(request), add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.inference_mode():
                if self.model.layout == "causal":
                    states = self.whole.base_model(input_ids=ids, use_cache=False).last_hidden_state
                    scores.append(float(self.whole.score(states[:, -1])[0, 0]))
                else:
                    scores.append(float(self.whole(input_ids=ids).logits[0, 0]))
        return scores

    def forced(self, work: Workload, way: Way) -> list[float]:
        """rmbench's own loop with one way of running a forward, from messages on."""
        encoded = self.model.encode(work.requests)
        return run_bins(self.model, encoded, planned(self.model, encoded, frozenset({way})))

    def public(self, work: Workload) -> list[float]:
        """What `rmbench run` does with a loaded model: tokens, plan, forwards, and a new store on disk."""
        with TemporaryDirectory() as folder, Store(Path(folder) / "answers.sqlite") as store:
            session = Session(self.model, Asking(store))
            return [reward.value for reward in session.ask([Question(one) for one in work.requests]).rewards]

    def takes(self, way: Way, work: Workload) -> bool:
        """Whether rmbench runs this model in that way."""
        return way in route(self.model, self.model.encode(work.requests)).ways

    def _rendered(self, request: Request) -> str:
        return str(self.tokenizer.apply_chat_template(_messages(request), tokenize=False))


def _messages(request: Request) -> list[dict[str, str]]:
    messages = [{"role": message.role, "content": message.text} for message in request.prompt]
    return [*messages, {"role": "assistant", "content": request.responses[0].text or ""}]


def loaded(folder: Path) -> TokenModel:
    """The checkpoint as rmbench's own family of classifiers, on the CPU."""
    return cast(TokenModel, rmbench.load_model(f"classifier:{folder}", device="cpu"))


def planned(model: TokenModel, encoded: Sequence[Encoded], ways: frozenset[Way], budget: int = BUDGET) -> list[Bin]:
    return plan(encoded, cost_of(model.backbone), budget, ways)


def by_default(model: TokenModel, encoded: Sequence[Encoded]) -> list[Bin]:
    """The plan that rmbench itself makes."""
    found = route(model, encoded)
    return planned(model, encoded, found.ways, 1 if found.alone else BUDGET)


def run_bins(
    model: TokenModel, encoded: Sequence[Encoded], bins: list[Bin], *, hold: bool = True, budget: int = BUDGET
) -> list[float]:
    """The forwards of a plan: the values of every sequence, one behind the other."""
    found: list[tuple[float, ...]] = [()] * len(encoded)
    with held("cpu" if hold else "none"):
        for one, rewards in run(model, encoded, lambda *_: bins, TokenBudget(budget)):
            assert rewards is not None  # the memory did suffice
            for i, reward in zip(one.members, rewards, strict=True):
                found[i] = reward.values
    return [value for values in found for value in values]


@dataclass(slots=True)
class Steps:
    """A process model: a backbone, and a head that is read at every step's end. `values` has one reward a step."""

    backbone: Any
    head: Any
    answers: frozenset[Ask] = frozenset({"steps"})
    fingerprint: str = "benchmark"
    layout: Literal["causal", "encoder"] = "causal"

    def encode(self, requests: Sequence[Request]) -> list[Encoded]:
        raise NotImplementedError  # what is scored here is encoded already

    def read(self, hidden: Sequence[Any], encoded: Sequence[Encoded]) -> list[Reward]:
        """One reward per read position of each sequence."""
        return [Reward(tuple(self.head(states.float())[:, 0].tolist())) for states in hidden]


def _cross_encoder(folder: Path) -> Any:
    """None where sentence-transformers is not installed."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return None
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the checkpoint is a folder; nothing is to be fetched
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu")
