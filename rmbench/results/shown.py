"""A result as programs and notebooks show it: one line, a table as HTML, a data frame."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from rmbench.results.schema import Metric, TaskResult


def line(result: TaskResult) -> str:
    """Who was judged on what, and the headline: `a/b on best_of_n v1: accuracy 19.4 % [11.9, 30.1], 72 examples`.

    Behind it stands which part of the task that is, where it is no whole one.
    """
    headline = result.task.headline
    measured = [metric for metric in _whole(result) if metric.name == headline]
    said = _number(measured[-1]) if measured else "-"
    size = f"{result.dataset.examples:,} {'prompts' if result.subject.kind == 'policy' else 'examples'}"
    part = f" ({result.dataset.part})" if result.dataset.part else ""
    return f"{result.subject.id} on {result.label} v{result.task.version}: {headline} {said}, {size}{part}"


def html(result: TaskResult) -> str:
    """Every metric over the whole of its primary view, with its interval; nothing of it is markup of the data's."""
    rows = "".join(
        f"<tr><td style='text-align: left'>{escape(metric.label)}</td><td>{escape(_number(metric))}</td>"
        f"<td>{metric.n:,}</td><td>{metric.clusters:,}</td></tr>"
        for metric in _whole(result)
    )
    heads = "".join(f"<th>{heading}</th>" for heading in ("metric", "value [95 % interval]", "n", "clusters"))
    told = "".join(f"<p>{escape(problem)}</p>" for problem in result.problems)
    return f"<p>{escape(line(result))}</p><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{told}"


def frame(result: TaskResult) -> pd.DataFrame:
    """A row a metric of every view and subset, with what the result is of."""
    import pandas as pd

    whose = {"model": result.subject.id, "task": result.label, "version": result.task.version}
    return pd.DataFrame([{**whose, **metric.model_dump()} for metric in result.metrics])


def _whole(result: TaskResult) -> list[Metric]:
    return [metric for metric in result.metrics if (metric.view, metric.subset) == (result.primary_view, "all")]


def _number(metric: Metric) -> str:
    if metric.value is None:
        return "-"
    share = metric.kind != "number"
    ends = (metric.value, metric.ci_low, metric.ci_high)
    value, low, high = ("" if end is None else f"{100 * end:.1f}" if share else f"{end:.4g}" for end in ends)
    return f"{value}{' %' if share else ''}{f' [{low}, {high}]' if low and high else ''}"
