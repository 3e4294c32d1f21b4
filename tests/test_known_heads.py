"""Known reward models with a head of their own: each is read as its authors read it."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints
import plain_heads
import pytest
import torch
from ask_models import score
from plain_heads import CASES

from rmbench.cli import main
from rmbench.errors import ModelError, UsageError
from rmbench.models.known import entries
from rmbench.models.spec import open_model
from rmbench.types import Message, Request, Response

TURNS = (
    (("user", "What is 37 + 58?"), ("assistant", "Let us add the tens first: 80, so it is 95.")),
    (("user", "Hi"), ("assistant", "Hello! 👋 How can I help?"), ("user", "Sort these words"), ("assistant", "No.")),
    (("user", "def area(width):"), ("assistant", "    return width * <pad>height  # מלבן <s>")),
)
CONVERSATIONS = [[{"role": role, "content": text} for role, text in turns] for turns in TURNS]
REQUESTS = [
    Request("reward", tuple(Message(role, text) for role, text in turns[:-1]), (Response(turns[-1][1]),))
    for turns in TURNS
]
UNNAMED = {"worldpm"}  # known by hub ids alone: a folder is read as the other model of its architecture


def spec_of(folder: Path, name: str, **options: str) -> str:
    if name in UNNAMED:
        options["entry"] = name
    if not entries()[name].verified:
        options["allow_unverified"] = "true"
    return f"{folder}?{'&'.join(f'{key}={value}' for key, value in options.items())}" if options else str(folder)


@pytest.mark.filterwarnings("ignore:.*an entry that was not verified")
@pytest.mark.parametrize("case", CASES)
def test_a_known_head_gives_what_its_authors_code_gives(tmp_path: Path, case: str, one_thread: None) -> None:
    name = case.split("/")[0]
    folder = plain_heads.make(tmp_path / "rm", CASES[case])
    expected = [CASES[case].reward(folder, turns) for turns in CONVERSATIONS]
    opened = open_model(spec_of(folder, name))
    assert opened.subject.settings["known"] == {"entry": name, "verified": entries()[name].verified}
    rewards = [reward.value for reward in score(opened, REQUESTS)]
    scale = max(map(abs, expected))
    assert rewards == pytest.approx(expected, abs=1e-5 * scale)
    assert max(rewards) - min(rewards) > 0.01 * scale


@pytest.mark.filterwarnings("ignore:.*code that comes with the checkpoint")
@pytest.mark.parametrize("case", CASES)
def test_read_as_if_it_were_unknown_it_is_refused_or_another(tmp_path: Path, case: str, one_thread: None) -> None:
    folder = plain_heads.make(tmp_path / "rm", CASES[case])
    with pytest.raises((ModelError, UsageError)):
        open_model(f"classifier:{folder}?entry=none").start("cpu")
    try:
        unknown = open_model(f"{folder}?entry=none")
        rewards = [reward.value for reward in score(unknown, REQUESTS)]
    except (ModelError, UsageError):
        return
    expected = [CASES[case].reward(folder, turns) for turns in CONVERSATIONS]
    # TRL's own head is what value_head reads without an entry
    assert (rewards == pytest.approx(expected, rel=1e-3)) == (case == "acecode-rm")
