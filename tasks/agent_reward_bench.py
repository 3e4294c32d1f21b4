"""AgentRewardBench: does a judge see whether an agent on the web did what it should (Lù et al., arXiv 2504.08942)?

These are the labels of its experts, without the trajectories: verdicts that were made elsewhere are held to them.
Figures are of the first annotation of each trajectory of the test split, as the authors count them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.rows import Row, shown
from rmbench.kinds.grading import Grading
from rmbench.metrics.interval import Statistic, cluster_codes
from rmbench.metrics.measure import Unfitted
from rmbench.types import Array, Candidate, Example, Outcome, Response

SPLIT = "test"
CUT = 0.5  # a verdict that is a number is for success above it, as the reward of an environment is
_LABELS = {"successful": True, "yes": True, "success": True, "unsuccessful": False, "no": False, "failure": False,
           "unsuccesful": False}  # fmt: skip
_UNSURE = "unsure"
_WHICH = ("benchmark", "model_name", "task_id")
_EXPECTED = "a row of annotations.csv has `benchmark`, `model_name`, `task_id` and `trajectory_success`"
# of true and false positives, false and true negatives, failures and all: what is divided by what
_FIGURES = (
    ("precision", "Precision of success", (1, 0, 0, 0, 0, 0), (1, 1, 0, 0, 0, 0), "does not say what is missed"),
    ("recall", "Recall of success", (1, 0, 0, 0, 0, 0), (1, 0, 1, 0, 0, 0), "1 for calling all a success"),
    ("f1", "F1 of success", (2, 0, 0, 0, 0, 0), (2, 1, 1, 0, 0, 0), "weighs precision and recall alike"),
    ("npv", "Precision of failure (NPV)", (0, 0, 0, 1, 0, 0), (0, 0, 1, 1, 0, 0), ".73 for calling all a failure"),
    ("tnr", "Recall of failure (TNR)", (0, 0, 0, 1, 0, 0), (0, 0, 0, 0, 1, 0), "1 for calling all a failure"),
    ("accuracy", "Accuracy", (1, 0, 0, 1, 0, 0), (0, 0, 0, 0, 0, 1), ".73 for calling all a failure"),
)
_NO_ANSWER = "no answer"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a trajectory, without its text, from the rows of annotations.csv and splits.csv in one folder."""
    annotations, splits = list[Row](), dict[str, str]()
    for row in rows:
        if "split" in row.value:
            row.need(("task_id",), "a row of splits.csv has `task_id` and `split`")
            splits[row.text("task_id")] = row.text("split")
        else:
            annotations.append(row)
    before: set[tuple[str, ...]] = set()
    for row in annotations:
        yield attempt(row, lambda row: _example(row, splits, before))


def _example(row: Row, splits: dict[str, str], before: set[tuple[str, ...]]) -> Example:
    for field in (*_WHICH, "trajectory_success"):
        row.need((field,), _EXPECTED)
    which = tuple(row.text(field) for field in _WHICH)
    (benchmark, agent, task), said = which, row.text("trajectory_success").strip().lower()
    same = task.replace(".resized", "").replace(".improved", "")
    if same not in splits:
        raise row.error(f"expected a task that splits.csv beside it has, got {shown(task)}", "task_id")
    if which in before:
        raise row.no_example("annotated by another expert before")
    before.add(which)
    if splits[same] != SPLIT:
        raise row.no_example(f"of the split {splits[same]}")
    if said == _UNSURE:
        raise row.no_example("of which the expert is unsure")
    if said not in _LABELS:
        raise row.error(f"expected Successful, Unsuccessful or Unsure, got {shown(said)}", "trajectory_success")
    subset = "workarena++" if benchmark == "workarena" and "l2" in task.lower() else benchmark
    candidate = Candidate(Response(None), _LABELS[said], tags={"policy": agent})
    return Example("/".join(which), (), (candidate,), facets={"agent": agent, "subset": subset}, cluster=same)


def verdicts(outcomes: Sequence[Outcome], view: str) -> Array:
    """Whether each trajectory is said to be a success [n]: 1 or 0; 0 where no verdict could be read of what a judge
    wrote (`refused`), -1 where it wrote nothing (`error`), nan where it was not asked."""
    said = np.full(len(outcomes), np.nan)
    for at, outcome in enumerate(outcomes):
        seen = outcome.views.get(view)
        if seen is None or seen.scores is None:
            continue
        if seen.status[0] == "refused":
            said[at] = 0.0
        elif seen.status[0] == "error":
            said[at] = -1.0
        elif not np.isnan(seen.scores[0]):
            said[at] = float(seen.scores[0] > CUT)
    return said


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Precision, the headline, then the authors' other figures; each is 0 where nothing is there to divide by."""
    said, truth = verdicts(outcomes, view), np.array([outcome.labels[0] for outcome in outcomes])
    right, wrong = said == truth, said == 1 - truth  # neither, where a judge wrote nothing
    kinds = [right & (said == 1), wrong & (said == 1), wrong & (said == 0), right & (said == 0), truth == 0]
    table = np.column_stack([*kinds, np.ones(len(said))]).astype(float)
    table[np.isnan(said)] = np.nan
    codes = cluster_codes([outcome.cluster for outcome in outcomes])
    return [
        Statistic(name, table, partial(_quotient, np.array(over), np.array(under)), "fraction", title=title,
                  unit="share of trajectories", better="higher", caveat=caveat,
                  effective_n=max(1.0, float(len(np.unique(codes[table @ under > 0])))))
        for name, title, over, under, caveat in _FIGURES
    ]  # fmt: skip


def _quotient(over: Array, under: Array, sums: Array) -> Array:
    """The quotient of two weighted sums of [..., 6]; 0 where the lower one is, nan where there is no row."""
    below = sums @ under
    return np.where(sums[..., -1] > 0, sums @ over / np.where(below > 0, below, 1.0), np.nan)


def left_out(outcomes: Sequence[Outcome], view: str) -> dict[str, int]:
    """How many trajectories were not judged."""
    count = int(np.isnan(verdicts(outcomes, view)).sum())
    return {_NO_ANSWER: count} if count else {}


TASK = Grading(
    name="agent_reward_bench",
    version=1,
    summary="AgentRewardBench: verdicts on web agents against experts: -m scores:FILE --data agent_reward_bench=FOLDER",
    card="agent_reward_bench",
    read=read,
    measure=Unfitted(
        "success",
        "precision",
        statistics,
        left_out,
        lambda outcomes, view: 0,
        uncalibrated="a verdict is no reward that probabilities could be made of",
    ),
)
