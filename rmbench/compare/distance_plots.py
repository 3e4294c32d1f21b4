"""What `rmbench distances --plots` draws: a matrix of distances, in the order of the dendrogram, and the dendrogram."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmbench.compare.distance_report import DistanceReport, TaskDistances
from rmbench.errors import ResultError
from rmbench.results.files import put

_CELL, _ROW, _WIDTH = 48, 28, 480
_LABEL = 220  # of a name, in pixels; a longer one is cut with an ellipsis


def draw(report: DistanceReport, folder: Path) -> list[Path]:
    """Writes two SVGs for each task into `folder`, which it makes, and returns their paths.

    Raises ResultError where the extra `site` is not installed or the folder cannot be written.
    """
    try:
        import altair  # noqa: F401
        import vl_convert
    except ImportError as error:
        raise ResultError("--plots needs altair and vl-convert-python: pip install 'rmbench[site]'") from error
    written = list[Path]()
    for place, task in enumerate(report.tasks):
        slug = re.sub(r"[^\w.-]+", "-", task.task).strip("-.") or f"task-{place + 1}"
        for what, specification in (("distances", matrix(task)), ("dendrogram", dendrogram(task))):
            path = folder / f"{slug}--{what}.svg"
            svg = vl_convert.vegalite_to_svg(specification)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                put(path, svg.encode())
            except OSError as error:
                raise ResultError(
                    f"{path}: cannot be written ({error.strerror}); --plots names another folder"
                ) from error
            written.append(path)
    return written


def matrix(task: TaskDistances) -> dict[str, Any]:
    """The Vega-Lite specification of a matrix of STARC distances with their intervals in the cells."""
    import altair as alt

    names = [task.models[place] for place in _order(task)]
    cells = [_cell(task, one, other) for one in names for other in names if one != other]
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X("first:N", sort=names, title=None, axis=alt.Axis(labelAngle=-45, labelLimit=_LABEL)),
        y=alt.Y("second:N", sort=names, title=None, axis=alt.Axis(labelLimit=_LABEL)),
    )
    scale = alt.Scale(scheme="viridis", domain=[0, 2], reverse=True)
    layers = [
        base.mark_rect().encode(color=alt.Color("starc:Q", scale=scale, title="STARC")),
        base.mark_text(dy=-5, fontSize=11).encode(text="value:N", color=_ink(alt)),
        base.mark_text(dy=8, fontSize=8).encode(text="interval:N", color=_ink(alt)),
    ]
    size = _CELL * len(names)
    made: dict[str, Any] = (
        alt.layer(*layers).properties(title=f"STARC distances: {task.task}", width=size, height=size).to_dict()
    )
    return made


def dendrogram(task: TaskDistances) -> dict[str, Any]:
    """The Vega-Lite specification of a dendrogram that grows to the right."""
    import altair as alt

    order = _order(task)
    lines = list[dict[str, float]]()
    at: dict[tuple[int, ...], tuple[float, float]] = {(leaf,): (0.0, float(row)) for row, leaf in enumerate(order)}
    for join in task.joins:
        (x_left, y_left), (x_right, y_right) = at[join.left], at[join.right]
        lines += [
            {"x": x_left, "x2": join.height, "y": y_left, "y2": y_left},
            {"x": x_right, "x2": join.height, "y": y_right, "y2": y_right},
            {"x": join.height, "x2": join.height, "y": y_left, "y2": y_right},
        ]
        at[join.left + join.right] = (join.height, (y_left + y_right) / 2)
    leaves = [{"x": 0.0, "y": float(row), "model": task.models[leaf]} for row, leaf in enumerate(order)]
    y = alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[-0.5, len(order) - 0.5], reverse=True))
    layers = [
        alt.Chart(alt.InlineData(values=lines))
        .mark_rule(strokeWidth=1.5)
        .encode(x=alt.X("x:Q", title="mean STARC at which groups join"), x2="x2:Q", y=y, y2="y2:Q"),
        alt.Chart(alt.InlineData(values=leaves))
        .mark_text(align="right", dx=-6, limit=_LABEL)
        .encode(x="x:Q", y=y, text="model:N"),
    ]
    made: dict[str, Any] = (
        alt.layer(*layers)
        .properties(title=f"Which rewards are near: {task.task}", width=_WIDTH, height=_ROW * len(order))
        .to_dict()
    )
    return made


def _order(task: TaskDistances) -> Sequence[int]:
    """The places of the models in the order of the dendrogram's leaves."""
    return task.joins[-1].left + task.joins[-1].right


def _cell(task: TaskDistances, one: str, other: str) -> Mapping[str, Any]:
    distance = task.pair(one, other).starc
    ends = "" if math.isnan(distance.low) else f"{distance.low:.2f} to {distance.high:.2f}"
    return {"first": one, "second": other, "starc": distance.value, "value": f"{distance.value:.2f}", "interval": ends}


def _ink(alt: Any) -> Any:
    """White on what is dark."""
    return alt.condition("datum.starc > 1.1", alt.value("white"), alt.value("black"))
