"""What judges answered, in the files that the code of JudgeBench, LLMBar and AgentRewardBench writes.

- JudgeBench: a row of its data with `judgments`, one a game: response A shown first, then, where there is a second,
  response B. Each is null or an object with `decision`, "A>B", "B>A", "A=B" or null, A being what was shown first; of a
  reward model (`judge_name`) it holds `judgment.scores`, of which the first game's are taken.
- LLMBar: a row of its data with `results`; the last of these has `swap = False` and `swap = True`, and in each
  `winner`, "1" or "2" for the output that is better, or null.
- AgentRewardBench: a file a trajectory, called after its task, in folders of benchmark, agent and judge. What a judge
  wrote is the `response` of a chat completion, with `<success>` in it; "aer" and "aerv" write `Status:`, "nnetnav"
  `Reward:`, of which 4 and 5 are a success. "functional" has none and goes by the environment's reward.

What is no verdict is `refused`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from rmbench.data.dataset import content_id
from rmbench.data.rows import Row, shown
from rmbench.types import Ask, Candidate, Example, Message, Reward

_DECISIONS = {"A>B": (1.0, 0.0), "B>A": (0.0, 1.0), "A=B": (0.5, 0.5)}
_WINNERS = {"1": 0, "2": 1}
_ORDERS = ((0, 1), (1, 0))
_SUCCESS = {
    **dict.fromkeys(("successful", "yes", "success"), 1.0),
    **dict.fromkeys(("unsuccessful", "no", "failure", "unsuccesful"), 0.0),
}
_SAYS_SUCCESS = {
    "aer": re.compile(r"^Status:(.*)$", re.MULTILINE),
    "aerv": re.compile(r"^Status:(.*)$", re.MULTILINE),
    "nnetnav": re.compile(r"Reward:(.*)", re.DOTALL),
}
_BY_LINE = ("aer", "aerv")  # of several lines the last one counts
_NEITHER = "n/a"  # neither success nor failure, as where there is no response
_TAGGED = re.compile(r"<success>(.*?)</success>", re.DOTALL)
_LEAST_LIKERT, _LEAST_REWARD = 4, 0.5


class Judged(NamedTuple):
    """One answer: about which candidates in the order shown, what was asked, and what came back."""

    candidates: tuple[int, ...]
    ask: Ask
    reward: Reward


def read_judged(row: Row) -> tuple[str, Sequence[Judged]] | None:
    """The example that a row is about, and the answers to it; None of a row that is no such one. Raises DataError."""
    if "judgments" in row.value:
        name = row.name(("pair_id",))
        if name is None:
            raise row.error("no pair is named", "pair_id")
        return name, _judgebench(row)
    if "results" in row.value and row.first(("output_1", "output_2")) is not None:
        candidates = tuple(Candidate(row.text(field)) for field in ("output_1", "output_2"))
        return content_id(Example("", (Message("user", row.text("input")),), candidates)), _llmbar(row)
    return None


def _judgebench(row: Row) -> list[Judged]:
    games = row.value["judgments"]
    if not isinstance(games, list) or not 1 <= len(games) <= 2:
        raise row.error(f"expected a list of one or two judgments, got {shown(games)}", "judgments")
    for game in games:
        if game is not None and (not isinstance(game, dict) or "decision" not in game):
            raise row.error(f"expected null or an object with `decision`, got {shown(game)}", "judgments")
        if game is not None and not isinstance(game["decision"], str | None):
            raise row.error(f"expected a text or null as `decision`, got {shown(game['decision'])}", "judgments")
    if row.value.get("judge_name") == "reward_model":
        return _rated(row, games[0])
    return [
        Judged(order, "compare", _verdict(None if game is None else _DECISIONS.get(game["decision"])))
        for order, game in zip(_ORDERS, games, strict=False)
    ]


def _rated(row: Row, game: Mapping[str, Any] | None) -> list[Judged]:
    if game is None:
        return [Judged((index,), "reward", Reward((math.nan,), status="missing")) for index in (0, 1)]
    held = game.get("judgment")
    scores = held.get("scores") if isinstance(held, dict) else None
    if not isinstance(scores, list) or len(scores) != 2 or not all(isinstance(one, int | float) for one in scores):
        raise row.error(f"expected two numbers in `judgment.scores`, got {shown(scores)}", "judgments")
    return [Judged((index,), "reward", Reward((float(score),))) for index, score in enumerate(scores)]


def _llmbar(row: Row) -> list[Judged]:
    stages = row.value["results"]
    last = stages[-1] if isinstance(stages, list) and stages else None
    games = [last.get(f"swap = {swapped}") if isinstance(last, dict) else None for swapped in (False, True)]
    answers = []
    for order, game in zip(_ORDERS, games, strict=True):
        if not isinstance(game, dict) or "winner" not in game:
            raise row.error(
                "expected a last object with a `winner` in `swap = False` and in `swap = True`, got "
                f"{shown(last)}", "results"
            )  # fmt: skip
        winner = _WINNERS.get(str(game["winner"]))
        masses = None if winner is None else tuple(float(index == winner) for index in order)
        answers.append(Judged(order, "compare", _verdict(masses)))
    return answers


def _verdict(masses: tuple[float, ...] | None) -> Reward:
    if masses is None:
        return Reward((math.nan, math.nan), status="refused", detail="no verdict")
    return Reward(masses)


def read_trajectory(row: Row) -> tuple[str, Reward] | None:
    """The trajectory that a file of AgentRewardBench's code is about, and whether the judge says that it succeeded.

    None of a file of a request that failed, which its authors leave out. Raises DataError.
    """
    if "error" in row.value and "judge" not in row.value:
        return None
    for field in ("benchmark", "agent", "judge"):
        row.need((field,), "a judgment of AgentRewardBench has `benchmark`, `agent`, `judge` and `trajectory_info`")
    task = PurePath(row.file).name.removesuffix(".gz").removesuffix(".json")
    name, judge = "/".join([row.text("benchmark"), row.text("agent"), task]), row.text("judge")
    if judge == "functional":
        held = row.value["trajectory_info"]
        summary = held.get("summary_info") if isinstance(held, dict) else None
        reward = summary.get("cum_reward") if isinstance(summary, dict) else None
        if isinstance(reward, bool) or not isinstance(reward, int | float):
            raise row.error(f"expected a number in `summary_info.cum_reward`, got {shown(reward)}", "trajectory_info")
        return name, Reward((float(reward > _LEAST_REWARD),))
    text = _completion(row)
    if text is None:
        return name, Reward((math.nan,), status="error", detail="no response")
    stated = _SAYS_SUCCESS.get(judge, _TAGGED).findall(text)
    said = re.sub("['\"]", "", stated[-1 if judge in _BY_LINE else 0].strip().lower()) if stated else ""
    if said == _NEITHER:
        return name, Reward((math.nan,), status="error", detail="no verdict")
    value = _SUCCESS.get(said)
    if judge == "nnetnav":
        value = float(int(said) >= _LEAST_LIKERT) if said.isdecimal() else None
    if value is None:
        return name, Reward((math.nan,), status="refused", detail="no verdict")
    return name, Reward((value,))


def _completion(row: Row) -> str | None:
    """What a judge wrote, None where there is no response."""
    response = row.value.get("response")
    choices = response.get("choices") if isinstance(response, dict) else None
    if not choices:
        return None
    first = choices[0] if isinstance(choices, list) else None
    message = first.get("message") if isinstance(first, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str):
        raise row.error(f"expected a text in `choices[0].message.content`, got {shown(content)}", "response")
    return content
