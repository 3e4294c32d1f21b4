"""Pairwise models: each known one against its authors' own reading, and what all of them have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pair_models
import plain_pairs
import pytest
from ask_models import score

from rmbench.errors import ModelError, UsageError
from rmbench.models.spec import open_model
from rmbench.types import Message, Request, Response, Reward

ONE = ({"role": "user", "content": "What is 37 + 58?"},)
SEVERAL = (
    {"role": "user", "content": "How long is the journey in minutes?"},
    {"role": "assistant", "content": "Which one?\n"},
    {"role": "user", "content": "A train leaves at 14:05 and arrives at 16:50."},
)
ANSWERS = ("It is 95, because 80 and 15 are 95.", " I cannot say.")
LONG = "two hours are 120 minutes and 45 more are left. " * 40


def request(prompt: Sequence[Mapping[str, str]], *responses: str) -> Request:
    turns = tuple(Message(turn["role"], turn["content"]) for turn in prompt)
    return Request("compare", turns, tuple(map(Response, responses)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pairs")
    return {
        "pairrm": pair_models.pairrm(root / "pairrm"),
        "letters": pair_models.letters(root / "letters"),
        "steamshp": pair_models.steamshp(root / "steamshp"),
        "gpm": pair_models.gpm(root / "gpm"),
        "flat": pair_models.gpm(root / "flat", dim=4, blocks=False),
    }


def conversation(folder: Path, prompt: Any, *responses: str) -> float:
    texts = (prompt[0]["content"], *responses)
    texts = texts if len(prompt) == 1 else plain_pairs.conversation_pair(prompt, *responses)
    return plain_pairs.pairrm(folder, plain_pairs.pairrm_ids(folder, *texts))


def better(folder: Path, prompt: Any, *responses: str) -> float:
    return plain_pairs.pairrm(folder, plain_pairs.better_pairrm_ids(folder, prompt, *responses))


# name of the checkpoint, options of the spec, and its authors' reading
KNOWN: Mapping[str, tuple[str, str, Any]] = {
    "pairrm": ("pairrm", "", conversation),
    "better_pairrm": ("pairrm", "?entry=better_pairrm", better),
    "pair_preference_model": ("letters", "?entry=pair_preference_model", plain_pairs.slic),
    "steamshp": ("steamshp", "?entry=steamshp", plain_pairs.steamshp),
    "general_preference_model": ("gpm", "", plain_pairs.gpm),
    "a general preference model without blocks": ("flat", "?entry=general_preference_model", plain_pairs.gpm),
}


@pytest.mark.parametrize("entry", KNOWN)
def test_a_known_model_compares_as_its_authors_have_it(entry: str, folders: Mapping[str, Path]) -> None:
    name, options, lead = KNOWN[entry]
    pairs = [(prompt, *order) for prompt in (ONE, SEVERAL) for order in (ANSWERS, ANSWERS[::-1])]
    rewards = score(open_model(f"pairwise:{folders[name]}{options}"), [request(*pair) for pair in pairs])
    leads = [lead(folders[name], *pair) for pair in pairs]
    assert [reward.status for reward in rewards] == ["ok"] * 4
    for reward, due in zip(rewards, leads, strict=True):
        assert reward.values == pytest.approx((plain_pairs.sigmoid(due), plain_pairs.sigmoid(-due)), abs=1e-5)
        assert sum(reward.values) == pytest.approx(1, abs=1e-12)
    assert max(map(abs, leads)) > 0.01, "a head that says nothing would pass"
