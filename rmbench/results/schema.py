"""The result of one model on one task, as it is published. `rmbench schema` prints it as JSON Schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION: Final = 2


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


class Figure(_Part):
    """One number with its 95 % interval; null where there is none, or too little for an interval.

    `n` counts the rows that count in it, `clusters` the independent groups among them.
    """

    name: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    clusters: int


class Metric(Figure):
    """A figure over the examples of a subset, seen in one view; the whole is subset `all`.

    `kind` is `number`, or, for what lies between 0 and 1, `proportion` (a share of examples) or `fraction`. `p` is that
    of a cluster sign-flip test against zero, where the figure is an effect; not adjusted for how many are looked at.
    """

    view: str
    subset: str
    kind: Literal["proportion", "fraction", "number"]
    p: float | None = None


class Definition(_Part):
    """What a statistic is: its title and unit, whether more of it (`higher`) or less is better, null where neither is,
    the least and the most that it can be, what it cannot say, and the kind that its interval goes by.
    """

    title: str
    unit: str
    better: Literal["higher", "lower"] | None
    bounds: tuple[float | None, float | None]
    caveat: str
    kind: Literal["proportion", "fraction", "number"]


class ReliabilityBin(_Part):
    """Rows of like probability: their mean `predicted` one and the share `observed` to be right, with its interval."""

    predicted: float
    observed: float
    ci_low: float
    ci_high: float
    n: int


class CalibrationMap(_Part):
    """One map from rewards to probabilities, judged on rewards that it was not fitted on.

    `scope` says of what: `pairs`, that the first of two responses to a prompt is the better one, from the difference
    of their rewards; `softmax`, that a response is the one right among those to its prompt; `pooled`, that a response
    is right, whatever its prompt. `map` says how: `raw` is the sigmoid or softmax of rewards as they are,
    `temperature` divides them first, `isotonic` is any rising function, straight between the ends of its steps, `platt`
    a sigmoid with slope and intercept. `parameters` are those of the fit on everything, which `rmbench score
    --calibrator` applies. The figure `reliability`, an unbiased estimate, may be negative.
    """

    scope: Literal["pairs", "softmax", "pooled"]
    map: Literal["raw", "temperature", "isotonic", "platt"]
    parameters: dict[str, float | list[float]]
    figures: list[Figure]
    reliability: list[ReliabilityBin]
    note: str | None = None

    def figure(self, name: str) -> Figure:
        """The figure called `name`. Raises KeyError where it was not measured."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(f"no figure {name!r}")


class Calibration(_Part):
    """What a reward of the primary view is worth as a probability; see `rmbench.calibration`.

    `kind` is the scope of `probability` in the records, and `map` the map of it. Fits are made in `folds` folds of
    whole `clusters`, each judged by the others' fit.
    """

    kind: Literal["softmax", "pooled"]
    map: Literal["temperature", "isotonic"]
    view: str
    folds: int
    clusters: int
    maps: list[CalibrationMap]

    def of(self, scope: str, how: str) -> CalibrationMap:
        """The map `how` of `scope`. Raises KeyError where there is none."""
        for found in self.maps:
            if (found.scope, found.map) == (scope, how):
                return found
        raise KeyError(f"no map {how!r} of {scope!r}")


class Scale(_Part):
    """The rewards of the primary view as numbers: how many, how many of them differ, and how many stand at an end."""

    rewards: int
    distinct: int
    minimum: float | None
    maximum: float | None
    at_minimum: int
    at_maximum: int


class Timing(_Part):
    """Seconds of wall clock of the whole run, all of its tasks together, and what it scored. See `scoring.Usage`.

    `ways` counts the sequences that shared a forward's tokens, were packed, or padded; empty where no forward was run.
    """

    seconds: float
    scoring_seconds: float
    requests: int
    unique: int
    stored: int
    scored: int
    batches: int
    tokens: int
    token_budget: int | None
    ways: dict[str, int] = {}


class TaskResult(_Part):
    """One model on one task. `statistics` says what each of the `metrics` is, by name.

    `statuses` counts requests, `ties` and `left_out` examples per view, `truncated` cut sequences, `same_tokens`
    responses whose text differs from another's of their example only in what the tokenizer drops. Where `calibration`
    is null, `calibration_reason` says why. `scale` is null where nothing but comparisons was asked.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    task: TaskInfo
    dataset: DatasetInfo
    subject: SubjectInfo
    primary_view: str
    statistics: dict[str, Definition] = {}
    metrics: list[Metric]
    left_out: dict[str, dict[str, int]]
    statuses: dict[str, int]
    truncated: int
    ties: dict[str, int]
    same_tokens: int
    scale: Scale | None
    calibration: Calibration | None
    calibration_reason: str | None
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
