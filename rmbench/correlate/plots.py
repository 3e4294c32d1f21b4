"""One scatter plot a pair: every common model with its name and both intervals."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.correlate.report import CorrelationReport, Pair
from rmbench.correlate.tables import Reported
from rmbench.errors import ResultError
from rmbench.metrics.fits import Share, predicted
from rmbench.results.files import put

_SIZE = {"width": 640, "height": 420}
_ROOM = 0.22  # of the range of x, right of the last model, for its name
_DASHES = {"mean": [2, 4], "line": [], "probit": [8, 3], "parabola": [8, 3, 2, 3]}
_POINTS = 60  # of a curve
_OPACITY = {
    "field": "is_taken",
    "type": "nominal",
    "scale": {"domain": [True, False], "range": [1, 0.35]},
    "legend": None,
}


def draw(report: CorrelationReport, folder: Path) -> list[Path]:
    """Writes an SVG into `folder` for every pair that has a number, and returns their paths.

    Raises ResultError where the extra `site` is not installed or the folder cannot be written.
    """
    try:
        import altair  # noqa: F401
        import vl_convert
    except ImportError as error:
        raise ResultError("--plots needs altair and vl-convert-python: pip install 'rmbench[site]'") from error
    written: list[Path] = []
    for pair in report.pairs:
        if pair.pearson is None:
            continue
        path = _free(folder, f"{_slug(pair.downstream)}--{_slug(pair.metric)}", written)
        svg = vl_convert.vegalite_to_svg(scatter(pair, report))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            put(path, svg.encode())
        except OSError as error:
            raise ResultError(f"{path}: cannot be written ({error.strerror}); --plots names another folder") from error
        written.append(path)
    return written


def scatter(pair: Pair, report: CorrelationReport) -> dict[str, Any]:
    """The Vega-Lite specification of one pair's plot."""
    import altair as alt

    metric, policy = report.metrics[pair.metric].figures, report.policies[pair.downstream].figures
    points = [_point(rm, metric[rm], policy[rm]) for rm in pair.models]
    base = alt.Chart(alt.InlineData(values=points))
    x = alt.X("x:Q", title=pair.metric, scale=alt.Scale(domain=_domain(points), zero=False, nice=False))
    y = alt.Y("y:Q", title=pair.downstream, scale=alt.Scale(zero=False))
    curves = alt.Chart(alt.InlineData(values=_curves(pair, report)))
    forms = [fit.form for fit in pair.fit.fits] if pair.fit else []
    dashes = alt.Scale(domain=forms, range=[_DASHES[form] for form in forms])
    form = alt.StrokeDash("form:N", scale=dashes, legend=alt.Legend(title=None, orient="bottom", symbolSize=900))
    layers = [
        curves.mark_line(color="steelblue", strokeWidth=1.2).encode(x=x, y=y, strokeDash=form, opacity=_OPACITY),
        base.mark_rule(color="gray").encode(x=alt.X("x_low:Q", title=pair.metric), x2="x_high:Q", y=y),
        base.mark_rule(color="gray").encode(x=x, y=alt.Y("y_low:Q", title=pair.downstream), y2="y_high:Q"),
        base.mark_point(filled=True, size=50, opacity=1).encode(x=x, y=y),
        base.mark_text(align="left", dx=6, dy=-6, fontSize=10, limit=220).encode(x=x, y=y, text="model:N"),
    ]
    spec: dict[str, Any] = alt.layer(*layers).properties(title=_title(pair), **_SIZE).to_dict()
    return spec


def _point(rm: str, metric: Reported, policy: Reported) -> dict[str, Any]:
    ends = {
        f"{axis}_{end}": figure.value if at is None else at
        for axis, figure in (("x", metric), ("y", policy))
        for end, at in (("low", figure.low), ("high", figure.high))
    }
    return {"model": rm, "x": metric.value, "y": policy.value, **ends}


def _curves(pair: Pair, report: CorrelationReport) -> list[dict[str, Any]]:
    """The points of each form that was fitted, from the first model to the last; AICc's stands out."""
    if pair.fit is None:
        return []
    metric, policy = report.metrics[pair.metric], report.policies[pair.downstream]
    values = [metric.figures[rm].value for rm in pair.models]
    at = np.linspace(min(values), max(values), _POINTS)
    shares = _between(metric.share(pair.models)), policy.share(pair.models)
    return [
        {"x": x, "y": y, "form": fit.form, "is_taken": fit.form == pair.fit.by_aicc}
        for fit in pair.fit.fits
        for x, y in zip(at.tolist(), predicted(fit, at, *shares).tolist(), strict=True)
        if math.isfinite(y)
    ]


def _between(share: Share | None) -> Share | None:
    """The same for points between models, which are of no trials."""
    return None if share is None else Share(share.whole, np.full(_POINTS, np.nan))


def _domain(points: Sequence[Mapping[str, Any]]) -> list[float]:
    low, high = min(point["x_low"] for point in points), max(point["x_high"] for point in points)
    return [low - 0.05 * (high - low), high + _ROOM * (high - low)]


def _title(pair: Pair) -> str:
    interval = "" if pair.ci_low is None else f" [{pair.ci_low:.2f}, {pair.ci_high:.2f}]"
    form = "" if pair.fit is None else f"; {pair.fit.by_aicc} by AICc"
    return f"r = {pair.pearson:.3f}{interval}, {pair.n} models{form}"


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")


def _free(folder: Path, stem: str, taken: Sequence[Path]) -> Path:
    """A path that no other plot of this report has, whatever their names have lost."""
    path, count = folder / f"{stem}.svg", 1
    while path in taken:
        count += 1
        path = folder / f"{stem}-{count}.svg"
    return path
