"""The result of one model on one task, as it is published. `rmbench schema` prints it as JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from rmbench.bounded import MOST_NAME
from rmbench.errors import UsageError
from rmbench.plugins import did_you_mean
from rmbench.results import shown
from rmbench.types import NullVerdict

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SCHEMA_VERSION: Final = 3
WORSE: Final = "worse than rewards as they are: its log loss out of fold is higher"  # in the note of such a map


# What a float counts exactly; of a larger number a library makes an error, or never an end
Count = Annotated[int, Field(ge=0, le=2**53)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, str_max_length=MOST_NAME)


class TaskInfo(_Part):
    """What was measured, and how. `version` rises whenever the same rows would give other examples.

    `kind` is that of the task, `measure` the name of what measures it and `headline` the metric that it looks at first,
    so that a result can be read where its task is not installed. `orders` is how responses are shown to a
    model that compares, `null_verdict` what a verdict that could not be read is; null where nothing is compared.
    """

    name: str
    version: Count
    kind: str
    measure: str
    headline: str
    orders: str | None = None
    null_verdict: NullVerdict | None = None


class Source(_Part):
    """Where rows are from: a hub set at a commit, a file by its name (never its path), or `bundled` ones.

    `sha256` is over the rows as read; `facets` are those that every row of it got.
    """

    id: str
    revision: str | None
    config: str | None = None
    split: str | None = None
    facets: dict[str, str] = {}
    sha256: str
    rows: Count | None = None


class DatasetInfo(_Part):
    """Which examples were scored. `sha256` stands for what was read and chosen; `examples_sha256` is over
    what the data state of the examples: ids, clusters, prompts, facets, labels or classes, annotations and labels of
    steps. `responses_sha256` is over the hashes, lengths and tags of the responses. All but the first follow from the
    records.

    Results are comparable where `examples_sha256` agrees, and `responses_sha256` too unless it is null
    in one of them, because a score file has no texts; whatever file or format they came from. `excluded` counts
    rows that gave no example, by reason; `noted` counts what is scored but worth knowing. `part` says which part of
    the whole they are and how it was chosen; "" of the whole, and in older files.
    """

    sources: list[Source]
    sha256: str
    examples_sha256: str
    responses_sha256: str | None
    examples: Count
    candidates: Count
    excluded: dict[str, Count]
    noted: dict[str, Count]
    part: str = ""

    @property
    def source(self) -> str:
        """The ids of its sources, each once."""
        return ", ".join(dict.fromkeys(source.id for source in self.sources))

    @property
    def revision(self) -> str | None:
        """The one revision that all of its sources have, None where they have several."""
        revisions = {source.revision for source in self.sources}
        return revisions.pop() if len(revisions) == 1 else None


class SubjectInfo(_Part):
    """What was evaluated. `id` is a name, never a path.

    `identity` says what `fingerprint` is a hash of: the `content` of a model, its name (`named`: code that may change,
    an endpoint), or nothing (`none`: an object in memory, whose fingerprint is null). `uses` is what it looks at
    besides prompt and responses, `answers` what it can be asked. `facts` are what only running it told.
    """

    kind: Literal["reward_model", "policy"]
    id: str
    family: str
    revision: str | None
    fingerprint: str | None
    identity: Literal["content", "named", "none"]
    may_change: bool
    uses: list[str]
    answers: list[str]
    facts: dict[str, Any] = {}


class ModelFit(_Part):
    """What a model that combines others fitted, and what each of its `members` did; null where nothing was.

    `fit` has the fit without each of the `folds` of clusters, and to the `whole`; a fold's questions are answered with
    the one that did not see them. `rule` says which cluster is in which fold. There are no `folds` where all clusters
    are in one, and the whole fit answers what it saw.
    """

    rule: str
    fit: Any
    members: list[Any]


class Fitted(_Part):
    """What was fitted to the data: by the task's measure, one fit a view, and by the model itself."""

    measure: dict[str, Any]
    model: ModelFit | None = None


class Definition(_Part):
    """What a statistic is: `better` is the direction, null where neither is better; `bounds` are its least and most,
    null where there is none; `caveat` is what it cannot say. `kind` picks its interval: see `Metric`.
    """

    title: str
    unit: str
    better: Literal["higher", "lower"] | None
    bounds: tuple[float | None, float | None]
    caveat: str
    kind: Literal["proportion", "fraction", "number"]


class Bootstrap(_Part):
    """How clusters were drawn for intervals and signs for tests: by `rule`, so many `draws`, from `seed`."""

    rule: str
    draws: Count
    seed: int = Field(ge=0)


class Config(_Part):
    """How a run was made, and where its file belongs.

    `model` are the model's settings; `data` the choices common to the run (limit, subset, seed, ...); `task` what
    is not the task's own on this one: data, orders, options; `run` how it was run, which changes no number (devices,
    budgets); `command` its parsed options, files by name and hash.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    task: dict[str, Any] = {}
    run: dict[str, Any] = {}
    command: dict[str, Any] = {}


class Figure(_Part):
    """One number with its 95 % interval; null where there is none, or too little for an interval.

    `n` counts the rows that count in it, `clusters` the independent groups among them.
    """

    name: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: Count
    clusters: Count


class Metric(Figure):
    """A figure over the examples of a subset, seen in one view: `all`, or those of a facet, as `facet=value`.

    `kind` is `number`, or, for what lies between 0 and 1, `proportion` (a share of examples) or `fraction`. `p` is that
    of a cluster sign-flip test against zero, where the figure is an effect; not adjusted for how many are looked at.
    `at` is the x of a point on a curve. `clusters_effective` clusters alike in size tell as much, and `n_effective`
    independent rows, n over the design effect; null where that is not known, and in older files.
    """

    view: str
    subset: str
    kind: Literal["proportion", "fraction", "number"]
    clusters_effective: float | None = None
    n_effective: float | None = None
    p: float | None = None
    at: float | None = None

    @property
    def label(self) -> str:
        """Its name, with the x where it is a point of a curve, as in `best@8`."""
        return self.name if self.at is None else f"{self.name}@{self.at:g}"


class ReliabilityBin(_Part):
    """Rows of like probability: their mean `predicted` one and the share `observed` to be right, with its interval."""

    predicted: float
    observed: float
    ci_low: float
    ci_high: float
    n: Count


class MapFit(_Part):
    """The parameters of a fit, and the loss that it made as small as it can be on what it was fitted to."""

    parameters: dict[str, float | list[float]]
    loss: float


class CalibrationMap(_Part):
    """One map from rewards to probabilities, judged on rewards that it was not fitted on.

    `scope` says of what: `pairs`, that the first of two responses to a prompt is the better one, from the difference
    of their rewards; `softmax`, that a response is the one right among those to its prompt; `pooled`, that a response
    is right, whatever its prompt. `map` says how: `raw` is the sigmoid or softmax of rewards as they are,
    `temperature` divides them first, `isotonic` is any rising function, straight between the ends of its steps, `platt`
    a sigmoid with slope and intercept. `parameters` are those of the fit on everything, which `rmbench score
    --calibrator` applies, and `loss` is its loss; `folds` are the fits without each fold, empty for a map that has
    nothing to fit. The figure `reliability`, an unbiased estimate, may be negative.
    """

    scope: Literal["pairs", "softmax", "pooled"]
    map: Literal["raw", "temperature", "isotonic", "platt"]
    parameters: dict[str, float | list[float]]
    loss: float
    folds: list[MapFit]
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
    whole `clusters`, each judged by the others' fit. `responses` are the least and the most responses to a prompt that
    a softmax was fitted to; null where there is none, and in older files.
    """

    kind: Literal["softmax", "pooled"]
    map: Literal["temperature", "isotonic"]
    view: str
    folds: Count
    clusters: Count
    maps: list[CalibrationMap]
    responses: tuple[int, int] | None = None

    def of(self, scope: str, how: str) -> CalibrationMap:
        """The map `how` of `scope`. Raises KeyError where there is none."""
        for fitted_map in self.maps:
            if (fitted_map.scope, fitted_map.map) == (scope, how):
                return fitted_map
        raise KeyError(f"no map {how!r} of {scope!r}")


class Scale(_Part):
    """The rewards of the primary view as numbers: how many, how many of them differ, and how many stand at an end."""

    rewards: Count
    distinct: Count
    minimum: float | None
    maximum: float | None
    at_minimum: Count
    at_maximum: Count


class Timing(_Part):
    """Seconds of wall clock of the task, and what was scored for it. See `scoring.Usage`.

    What a composed model's members answer for all tasks at once is scored with the first task that is run. `shared` is
    null in results of before it was counted. `ways` counts the sequences that shared a forward's tokens, were packed,
    or padded; empty where no forward was run.
    """

    seconds: float
    scoring_seconds: float
    requests: Count
    unique: Count
    shared: Count | None = None
    stored: Count
    scored: Count
    batches: Count
    tokens: Count
    token_budget: Count | None
    ways: dict[str, Count] = {}


class TaskResult(_Part):
    """One model on one task.

    `statistics` says of each metric what it is. `statuses` counts requests, `reasons` those that are not `ok` by status
    and reason, `noted` by reason those of which what a model was shown is not quite what was asked; `ties` and
    `left_out` count examples per view, `truncated` cut sequences, `same_tokens`
    responses whose text differs from another's of their example only in what the tokenizer drops. Where `calibration`
    is null, `calibration_reason` says why. `scale` is null where nothing but comparisons was asked. `columns` has, of
    each table of records, a hash of every column.

    What stands here follows from the records, but for `subject`, `config`, `timing`, `environment`, `created`,
    `fitted.model`, and of `dataset` its sources, `sha256`, `excluded` and `noted`: these are attested.
    """

    schema_version: Literal[3] = SCHEMA_VERSION
    task: TaskInfo
    dataset: DatasetInfo
    subject: SubjectInfo
    primary_view: str
    fitted: Fitted
    statistics: dict[str, Definition]
    metrics: list[Metric]
    bootstrap: Bootstrap
    left_out: dict[str, dict[str, Count]]
    statuses: dict[str, Count]
    reasons: dict[str, dict[str, Count]]
    noted: dict[str, Count] = {}
    truncated: Count
    ties: dict[str, Count]
    same_tokens: Count
    scale: Scale | None
    calibration: Calibration | None
    calibration_reason: str | None
    columns: dict[str, dict[str, str]]
    timing: Timing
    environment: dict[str, str]
    config: Config
    created: str

    _records: Any = PrivateAttr(default=None)
    _requests: Any = PrivateAttr(default=None)
    _problems: Sequence[str] = PrivateAttr(default=())
    _responses: Mapping[tuple[str, int], str] | None = PrivateAttr(default=None)

    def metric(self, name: str, *, view: str | None = None, subset: str = "all", at: float | None = None) -> Metric:
        """The metric called `name`, of the primary view unless told. Raises KeyError, with the close ones, where it was
        not measured.

        >>> import rmbench
        >>> (result,) = rmbench.evaluate("length", ["best_of_n"], limit=20)
        >>> result.metric("mrr").subset
        'all'
        """
        wanted = (name, view or self.primary_view, subset)
        for metric in self.metrics:
            if (metric.name, metric.view, metric.subset) == wanted and at in (None, metric.at):
                return metric
        raise KeyError(self._lacks(*wanted))

    def check_metric(self, name: str) -> None:
        """Raises UsageError, with the close ones, where nothing is measured by that name."""
        if name not in self.statistics:
            there = ", ".join(self.statistics)
            raise UsageError(f"unknown metric {name!r}{did_you_mean(name, self.statistics)}; there is {there}")

    def to_pandas(self) -> pd.DataFrame:
        """A row a metric of every view and subset; `records.to_pandas()` has one a candidate. Needs pandas.

        >>> import rmbench
        >>> (result,) = rmbench.evaluate("length", ["best_of_n"], limit=20)
        >>> list(result.to_pandas().columns)[:6]
        ['model', 'task', 'version', 'name', 'value', 'ci_low']
        """
        return shown.frame(self)

    def __repr__(self) -> str:
        return f"TaskResult({shown.line(self)})"

    def __str__(self) -> str:
        return shown.line(self)

    def _repr_html_(self) -> str:
        return shown.html(self)

    def _lacks(self, name: str, view: str, subset: str) -> str:
        """Which of the three there is not, with the close ones."""
        for what, given, there in (
            ("metric", name, list(dict.fromkeys(metric.name for metric in self.metrics))),
            ("view", view, self.views),
            ("subset", subset, list(dict.fromkeys(metric.subset for metric in self.metrics))),
        ):
            if given not in there:
                return f"unknown {what} {given!r}{did_you_mean(given, there)}; there is {', '.join(there)}"
        return f"{name} was not measured in view {view} of {subset}"

    @property
    def is_part(self) -> bool:
        """Whether it is of a part of the task that a run chose: a subset, or what `--limit` left."""
        return bool(self.config.data.get("limit") or self.config.data.get("subset"))

    @property
    def views(self) -> list[str]:
        """Every view that was measured, in the order of the metrics."""
        return list(dict.fromkeys(metric.view for metric in self.metrics))

    @property
    def label(self) -> str:
        """What it is called among others: the name of its data where its run had several of a task, else the task's."""
        return str(self.config.task.get("name", self.task.name))

    @property
    def records(self) -> pa.Table:
        """One row a candidate; None on a result read without its Parquet."""
        return self._records

    @property
    def requests(self) -> pa.Table | None:
        """One row a request, of examples where some showed several responses; else candidates' rows hold their own."""
        return self._requests

    @property
    def responses(self) -> Mapping[tuple[str, int], str] | None:
        """What a policy wrote, by example and sample; never written, and so None on a result that was read."""
        return self._responses

    @property
    def problems(self) -> Sequence[str]:
        """One line a status that is not `ok`, with its first place. Never written: it may quote paths."""
        return self._problems
