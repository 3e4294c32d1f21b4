"""The result of one model on one task, as it is published. `rmbench schema` prints it as JSON Schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION: Final = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaskInfo(_Part):
    """`version` rises whenever the same rows would give other examples.

    `protocol` is how pairs are shown, `null_verdict` what a verdict that could not be read is.
    """

    name: str
    version: int
    protocol: str | None = None
    null_verdict: Literal["no answer", "loss"] | None = None


class DatasetInfo(_Part):
    """Which examples were scored. `sha256` is over what was read; `examples_sha256` over ids, clusters and labels.

    Results are comparable where `examples_sha256` agrees, and `responses_sha256` (over the texts) too unless it is null
    in one of them, because a score file has no texts; whatever file or format they came from. `excluded` counts
    rows that gave no example, by reason; `noted` counts what is scored but worth knowing.
    """

    source: str
    revision: str | None
    sha256: str
    examples_sha256: str
    responses_sha256: str | None
    examples: int
    candidates: int
    excluded: dict[str, int]
    noted: dict[str, int]


class SubjectInfo(_Part):
    """What was evaluated. `id` is a name, never a path; `fingerprint` is null for code that may change."""

    kind: Literal["reward_model", "policy"]
    id: str
    family: str
    revision: str | None
    fingerprint: str | None


class Metric(_Part):
    """One number with its 95 % interval. Values are fractions; null where no example gives one.

    `n` counts examples that count in it, `clusters` the independent groups among them; the whole is subset `all`.
    """

    name: str
    view: str
    subset: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    clusters: int


class Timing(_Part):
    """Seconds of wall clock of the whole run, all of its tasks together, and what it scored. See `scoring.Tally`."""

    seconds: float
    scoring_seconds: float
    requests: int
    unique: int
    stored: int
    scored: int
    batches: int
    tokens: int
    token_budget: int | None


class TaskResult(_Part):
    """One model on one task.

    `statuses` counts requests, `ties` and `left_out` examples per view, `truncated` cut sequences, `same_tokens`
    responses whose text differs from another's of their example only in what the tokenizer drops. `reports` holds what
    a task says beyond metrics.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    task: TaskInfo
    dataset: DatasetInfo
    subject: SubjectInfo
    primary_view: str
    metrics: list[Metric]
    left_out: dict[str, dict[str, int]]
    statuses: dict[str, int]
    truncated: int
    ties: dict[str, int]
    same_tokens: int
    reports: dict[str, Any] = {}
    calibration: dict[str, Any] | None = None
    calibration_reason: str | None = None
    timing: Timing
    environment: dict[str, str]
    config: dict[str, Any]
    created: str

    _records: Any = PrivateAttr(default=None)
    _comparisons: Any = PrivateAttr(default=None)
    _problems: Sequence[str] = PrivateAttr(default=())

    def metric(self, name: str, *, view: str | None = None, subset: str = "all") -> Metric:
        """The metric called `name`, of the primary view unless told. Raises KeyError where it was not measured."""
        wanted = (name, view or self.primary_view, subset)
        for metric in self.metrics:
            if (metric.name, metric.view, metric.subset) == wanted:
                return metric
        raise KeyError(f"no metric {wanted}")

    @property
    def records(self) -> pa.Table:
        """One row a candidate; None on a result read without its Parquet."""
        return self._records

    @property
    def comparisons(self) -> pa.Table | None:
        """One row a compared pair of responses, where pairs were asked."""
        return self._comparisons

    @property
    def problems(self) -> Sequence[str]:
        """One line a status that is not `ok`, with its first place. Never written: it may quote paths."""
        return self._problems
