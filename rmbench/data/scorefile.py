"""Score files: what a model answered in an earlier run, RewardMATH's official ones and rmbench's own.

Seven formats, each as JSON, JSON lines or Parquet (and gzipped):

- RewardMATH's, one row per problem: `problem`, `solution_reference`, `score`. `score` holds ten numbers (direct), ten
  lists of step rewards (process models), or nine verdicts "A", "B" or null with nine `chosen_position` (pairwise).
  The right solution stands at index 0, verdict j is about solution j + 1.
- one row per candidate: `example_id`, `candidate` (from 0) and `reward`, or `steps`, a list of step rewards, of which
  the option `aggregate` makes one, with `heads`, a mapping of names to numbers, where there are several,
  `step_heads`, one of names to lists of them, and `spread`, the standard deviation of `reward`. rmbench's result
  records are such rows.
- StrictPRMBench's, which are such rows by other names: `problem_id`, `candidate_index` and `step_scores`.
- one row per comparison: `example_id`, `first`, `second` (candidates in the order shown) and `win_first` in [0, 1].
- one row per request: `example_id`, `candidates` in the order shown and `values`, one each, with `pick` where only the
  best was named (its place among those shown), `heads`, a mapping of names to lists like `values`, where there are
  several, and `spread`, a list of the standard deviations of `values`. rmbench's records of requests are such rows.
- one row per pair: `chosen_reward` and `rejected_reward` (or `score_chosen` and `score_rejected`, ...), a number or a
  list of them. It joins the example of its id, or of its texts where it has them (and before its id where it has
  several of a side, as RM-Bench's rows, whose ids repeat); else row by row, in the data's order. Where both are null,
  as RMB's code writes them of a model that compares, `is_correct` (1 or 0) says whether the chosen one was preferred.
- what the code of JudgeBench, LLMBar and AgentRewardBench writes: see `judged`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from rmbench.bounded import MOST_COUNT
from rmbench.data.conversation import IDS, read_answers, read_responses
from rmbench.data.dataset import content_id
from rmbench.data.files import Row, shown
from rmbench.data.judged import read_judged, read_trajectory
from rmbench.types import STATUSES, Ask, Candidate, Example, Reward, Status

_EXPECTED = (
    "a score file has `example_id`, `candidate` and `reward` or `steps`; or `example_id`, `candidates` and "
    "`values`; or `example_id`, `first`, `second` and `win_first`; or `chosen_reward` and `rejected_reward`, a row an "
    "example; or RewardMATH's `problem` and `score`; or JudgeBench's `judgments`; or LLMBar's `results`"
)
_STRICT = {"problem_id": "example_id", "candidate_index": "candidate", "step_scores": "steps"}
_SIDED = ("reward", "rewards", "score", "scores")
_SIDES = [(f"chosen_{what}", f"rejected_{what}") for what in _SIDED]
_SIDES += [(f"chosen_{what}", f"reject_{what}") for what in _SIDED]
_SIDES += [(f"{what}_chosen", f"{what}_rejected") for what in _SIDED]
# the columns that hold no text, which in a table of texts they have to be made of
NUMBERS = {
    *("candidate", "candidates", "reward", "steps", "values", "first", "second", "win_first", "pick", "spread"),
    *("n_tokens", "truncated", "heads", "step_heads", "candidate_index", "step_scores"),
    *(name for sides in _SIDES for name in sides),
}


@dataclass(frozen=True, slots=True)
class Official:
    """A row of an official RewardMATH score file. `sources` and `rewards` are in the order of the file.

    Direct and process rows have one reward per candidate, from index 0. Pairwise rows have one per rejected
    candidate, from index 1, and `positions` says where the chosen one was shown, "A" (first) or "B".
    """

    example_id: str
    ask: Ask
    sources: tuple[str, ...]
    rewards: tuple[Reward, ...]
    positions: tuple[str, ...] | None

    @property
    def shown(self) -> list[tuple[int, ...]]:
        """The candidate indices that each reward is about, in display order."""
        if self.positions is None:
            return [(index,) for index in range(len(self.rewards))]
        return [(0, j) if position == "A" else (j, 0) for j, position in enumerate(self.positions, 1)]


@dataclass(frozen=True, slots=True)
class ScoreEntry:
    """One recorded answer. `candidates` are the indices shown, in order; `group` is how many candidates the example
    has according to the row, None where the row does not say. `is_nth`: the id is the number of the row, as nothing in
    it says which example it is of."""

    example_id: str
    candidates: tuple[int, ...]
    ask: Ask
    reward: Reward
    row: Row
    group: int | None = None
    is_nth: bool = False

    @property
    def steps_field(self) -> str:
        """The field of the row that holds step rewards."""
        return "steps" if self.group is None else "score"


def read_entries(rows: Iterable[Row]) -> Iterator[ScoreEntry]:
    """What a score file recorded. Raises DataError that names file, row and field of what it cannot read."""
    seen: Counter[str] = Counter()
    for number, row in enumerate(rows):
        if (sides := _sides(row)) is not None and row.first(("reward", "steps", "values", "win_first")) is None:
            yield from _pair(row, sides, number, seen)
        elif is_official(row):
            official = read_official(row, seen)
            candidates = len(official.rewards) + (official.ask == "compare")
            for indices, reward in zip(official.shown, official.rewards, strict=True):
                yield ScoreEntry(official.example_id, indices, official.ask, reward, row, candidates)
        elif "trajectory_info" in row.value:
            if (trajectory := read_trajectory(row)) is not None:
                yield ScoreEntry(trajectory[0], (0,), "reward", trajectory[1], row, 1)
        elif (judged := read_judged(row)) is not None:
            name = _nth(judged[0], seen)
            yield from (ScoreEntry(name, one.candidates, one.ask, one.reward, row, 2) for one in judged[1])
        else:
            yield _record(_renamed(row))


def _renamed(row: Row) -> Row:
    """A row of StrictPRMBench in our names, any other as it is."""
    if not row.value.keys() >= _STRICT.keys():
        return row
    return replace(row, value={_STRICT.get(name, name): value for name, value in row.value.items()})


def is_official(row: Row) -> bool:
    """Whether the row is one of an official RewardMATH score file."""
    return "problem" in row.value and "score" in row.value


def example_id(problem: str, seen: Counter[str]) -> str:
    """The id of a RewardMATH problem: of its text, so that files of other row order join; `#2` at the second time.

    `seen` counts the problems met so far in the same file.
    """
    seen[problem] += 1
    digest = sha256(problem.encode()).hexdigest()[:12]
    return digest if seen[problem] == 1 else f"{digest}#{seen[problem]}"


def read_official(row: Row, seen: Counter[str]) -> Official:
    """A row of an official RewardMATH score file; `seen` as in `example_id`. Raises DataError."""
    problem = row.text("problem")
    scores = row.value["score"]
    if not isinstance(scores, list) or not scores:
        raise row.error(f"expected a list of scores, got {shown(scores)}", "score")
    sources = _strings(row, "solution_reference", len(scores)) or ("",) * len(scores)
    positions = _strings(row, "chosen_position", len(scores))
    if positions is not None:
        ask: Ask = "compare"
        if not set(positions) <= {"A", "B"}:
            raise row.error(f"expected 'A' (shown first) or 'B' for each, got {shown(positions)}", "chosen_position")
        rewards = tuple(_verdict(row, score) for score in scores)
    elif any(isinstance(score, list) for score in scores):
        ask, rewards = "steps", tuple(_steps(row, "score", score) for score in scores)
    else:
        ask, rewards = "reward", tuple(_scalar(row, score) for score in scores)
    return Official(example_id(problem, seen), ask, sources, rewards, positions)


def _record(row: Row) -> ScoreEntry:
    """A row of rmbench's own formats."""
    if row.first(("example_id",)) is None:
        # of a row that scores one side the other is what is missing
        one_side = next((sides for sides in _SIDES if row.first(sides) is not None), ())
        raise row.lacks(next((side for side in one_side if side not in row.value), "example_id"), _EXPECTED)
    example = row.name(("example_id",))
    if example is None:
        raise row.error("no example is named", "example_id")
    if row.value.get("candidates") is not None and row.value.get("values") is not None:
        return _request(row, example)
    if row.first(("first", "second", "win_first")):
        pair = _whole(row, "first"), _whole(row, "second")
        if pair[0] == pair[1]:
            raise row.error(f"expected another candidate than `first`, got {pair[0]} twice", "second")
        return ScoreEntry(example, pair, "compare", _share(row), row)
    row.need(("reward", "steps"), _EXPECTED)
    reward = _steps(row, "steps", row.value["steps"]) if row.value.get("steps") else _with_heads(row)
    n_tokens, truncated = (_whole(row, name) if row.name((name,)) else 0 for name in ("n_tokens", "truncated"))
    reward = replace(reward, status=_status(row, reward.status), n_tokens=n_tokens, truncated=truncated)
    if reward.steps:
        heads = {name: _steps(row, "step_heads", numbers).steps for name, numbers in _pairs(row, "step_heads")}
        reward = replace(reward, step_heads=heads)
    return ScoreEntry(example, (_whole(row, "candidate"),), "steps" if reward.steps else "reward", reward, row)


def _sides(row: Row) -> tuple[str, str] | None:
    """The fields of a row that hold the rewards of the chosen and of the rejected response."""
    return next((sides for sides in _SIDES if sides[0] in row.value and sides[1] in row.value), None)


def _pair(row: Row, sides: tuple[str, str], number: int, seen: Counter[str]) -> Iterator[ScoreEntry]:
    """The entries of a row that scores chosen and rejected responses, in the order of the data's candidates."""
    of_texts = "chosen" in row.value and (isinstance(row.value[sides[0]], list) or row.filled(IDS) is None)
    name = _content_of(row) if of_texts else row.name(IDS)
    name = None if name is None else _nth(name, seen)
    rewards = [(side, one) for side in sides for one in _listed(row.value[side])]
    if of_texts:
        _check_sides(row, sides)
    place, is_nth = str(number) if name is None else name, name is None
    if [one for _, one in rewards] == [None, None] and (right := row.value.get("is_correct")) in (0, 1):
        yield ScoreEntry(place, (0, 1), "compare", Reward((float(right), 1.0 - right)), row, is_nth=is_nth)
        return
    for candidate, (side, one) in enumerate(rewards):
        reward = Reward((_number(row, side, one),), status="missing" if one is None else "ok")
        yield ScoreEntry(place, (candidate,), "reward", reward, row, is_nth=is_nth)


def _check_sides(row: Row, sides: tuple[str, str]) -> None:
    """Raises DataError where a row has another number of rewards than of responses on one side."""
    answers = read_answers(row)
    chosen = answers.chosen or 0
    for side, count in zip(sides, (chosen, len(answers.replies) - chosen), strict=True):
        if len(_listed(row.value[side])) != count:
            raise row.error(f"expected as many as responses, {count}, got {shown(row.value[side])}", side)


def _content_of(row: Row) -> str:
    """The name that the texts of a row give it, whatever its id."""
    read = read_responses(row)
    return content_id(Example("", read.prompt, tuple(map(Candidate, read.responses)), read.tools))


def _nth(name: str, seen: Counter[str]) -> str:
    """The name of an example that stood before, as data sets make it; `seen` counts those met so far."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _request(row: Row, example: str) -> ScoreEntry:
    """A row of the table of requests: the values of the candidates shown, in that order."""
    candidates, values = row.value["candidates"], row.value["values"]
    if not isinstance(candidates, list) or not all(isinstance(one, int) and one >= 0 for one in candidates):
        raise row.error(
            f"expected a list of candidates, each a whole number from 0, got {shown(candidates)}", "candidates"
        )
    if len(set(candidates)) < len(candidates) or not candidates:
        raise row.error(f"expected different candidates, got {shown(candidates)}", "candidates")
    if not isinstance(values, list) or len(values) != len(candidates):
        raise row.error(f"expected a list as long as `candidates`, {len(candidates)}, got {shown(values)}", "values")
    numbers = tuple(_number(row, "values", value) for value in values)
    pick, spread = row.value.get("pick"), row.value.get("spread")
    if pick is not None and (not isinstance(pick, int) or not 0 <= pick < len(candidates)):
        raise row.error(f"expected a place among the {len(candidates)} candidates shown, got {shown(pick)}", "pick")
    reward = Reward(
        numbers,
        pick=pick,
        spread=None if spread is None else tuple(_spread(row, value) for value in spread),
        heads={name: _head(row, head, len(candidates)) for name, head in _pairs(row, "heads")},
        status=_status(row, "refused" if any(map(math.isnan, numbers)) else "ok"),
        n_tokens=_whole(row, "n_tokens") if row.name(("n_tokens",)) else 0,
        truncated=_whole(row, "truncated") if row.name(("truncated",)) else 0,
    )
    return ScoreEntry(example, tuple(candidates), "compare" if len(candidates) > 1 else "reward", reward, row)


def _head(row: Row, head: Any, k: int) -> tuple[float, ...]:
    if not isinstance(head, list) or len(head) != k:
        raise row.error(f"expected lists as long as `candidates`, {k}, got {shown(head)}", "heads")
    return tuple(_number(row, "heads", value) for value in head)


def _share(row: Row) -> Reward:
    win = _number(row, "win_first", row.value.get("win_first"))
    if win < 0 or win > 1:
        raise row.error(f"expected a share of a win, from 0 to 1, got {win}", "win_first")
    return Reward((win, 1 - win), status=_status(row, "refused" if math.isnan(win) else "ok"))


def _with_heads(row: Row) -> Reward:
    reward = row.value.get("reward")
    if reward is None and "status" in row.value and row.value["status"] is None:
        raise row.error(
            "null, like its status: this model compared, so its .requests.parquet is the score file", "reward"
        )
    heads = {name: (_number(row, "heads", head),) for name, head in _pairs(row, "heads")}
    status: Status = "missing" if reward is None else "ok"
    spread = row.value.get("spread")
    of_value = None if spread is None else (_spread(row, spread),)
    return Reward((_number(row, "reward", reward),), heads=heads, spread=of_value, status=status)


def _verdict(row: Row, verdict: Any) -> Reward:
    if verdict not in ("A", "B", None):
        raise row.error(f"expected a verdict, 'A', 'B' or null, got {shown(verdict)}", "score")
    if verdict is None:
        return Reward((math.nan, math.nan), status="refused", detail="no verdict")
    return Reward((1.0, 0.0) if verdict == "A" else (0.0, 1.0))


def _scalar(row: Row, score: Any) -> Reward:
    if score in ("A", "B"):
        raise row.error(f"expected a number, got {shown(score)}; verdicts go with `chosen_position`", "score")
    return Reward((_number(row, "score", score),), status="missing" if score is None else "ok")


def _steps(row: Row, field: str, steps: Any) -> Reward:
    if not isinstance(steps, list):
        raise row.error(f"expected a list of step rewards, got {shown(steps)}", field)
    if not steps:
        return Reward((math.nan,), status="missing", detail="no step rewards")
    rewards = tuple(_number(row, field, step) for step in steps)
    return Reward((math.nan,), steps=rewards)


def _status(row: Row, otherwise: Status) -> Status:
    """The row's own `status`, where it has one."""
    status: Status | None = row.value.get("status")
    if status is not None and status not in STATUSES:
        raise row.error(f"expected one of {', '.join(STATUSES)}, got {shown(status)}", "status")
    return status or otherwise


def _number(row: Row, field: str, value: Any) -> float:
    """A number, nan for null."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise row.error(f"expected a number, got {shown(value)}", field)
    try:
        return float(value)
    except OverflowError as error:
        raise row.error(f"{shown(value)} is beyond the largest float", field) from error


def _spread(row: Row, value: Any) -> float:
    """A standard deviation, nan for null."""
    spread = _number(row, "spread", value)
    if spread < 0 or math.isinf(spread):
        raise row.error(f"expected a standard deviation, finite and not below 0, got {shown(value)}", "spread")
    return spread


def _whole(row: Row, field: str) -> int:
    value = row.value.get(field)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise row.error(f"expected a whole number from 0, got {shown(value)}", field)
    if value > MOST_COUNT:
        raise row.error(f"expected a whole number up to {MOST_COUNT:,}, got {shown(value)}", field)
    return value


def _strings(row: Row, field: str, length: int) -> tuple[str, ...] | None:
    """A list of `length` texts, None where the row has no such field."""
    value = row.value.get(field)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != length:
        raise row.error(f"expected a list as long as `score`, {length}, got {shown(value)}", field)
    return tuple(str(item) for item in value)


def _pairs(row: Row, field: str) -> list[tuple[str, Any]]:
    """The items of a mapping, which Parquet hands back as a list of pairs."""
    value = row.value.get(field) or {}
    if isinstance(value, dict):
        return list(value.items())
    if not isinstance(value, list) or not all(isinstance(pair, tuple) for pair in value):
        raise row.error(f"expected a mapping of names to numbers, got {shown(value)}", field)
    return value
