"""Plots as Vega-Lite specifications. Titles stand beside them in the page, colours are set there by light or dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rmbench.report.curves import Point
from rmbench.results.schema import CalibrationMap, Metric

Spec = dict[str, Any]

_HEIGHT = 260


def reliability(before: CalibrationMap, after: CalibrationMap | None) -> Spec:
    """Share that is right against probability, before and after calibration; a dashed line is where they agree."""
    import altair as alt

    maps = {f"before ({before.map})": before} | ({f"after ({after.map})": after} if after else {})
    points = [
        {
            "scores": name,
            "probability": at.predicted,
            "right": at.observed,
            "low": at.ci_low,
            "high": at.ci_high,
            "n": at.n,
        }
        for name, fitted_map in maps.items()
        for at in fitted_map.reliability
    ]
    least = 0.5 if all(at.predicted >= 0.5 for fitted_map in maps.values() for at in fitted_map.reliability) else 0.0
    ideal = _chart([{"at": least}, {"at": 1.0}]).mark_line(strokeDash=[4, 4], color="gray")
    x = alt.X("probability:Q", title="probability", scale=alt.Scale(domain=[least, 1]), axis=alt.Axis(tickCount=5))
    y = alt.Y("right:Q", title="share right", scale=alt.Scale(domain=[0, 1]))
    return _spec(ideal.encode(x="at:Q", y="at:Q"), *_points_with_intervals(points, x, y, "scores", list(maps)))


def length_curve(points: Sequence[Point]) -> Spec:
    """Reward against length, both within prompts, right and wrong answers apart."""
    import altair as alt

    x = alt.X("characters:Q", title="characters more than the prompt's mean", axis=alt.Axis(tickCount=6))
    y = alt.Y("reward:Q", title="reward above the prompt's mean")
    return _spec(_zero("y"), *_points_with_intervals(points, x, y, "answers", ["right", "wrong"]))


def margins(bars: Sequence[Point]) -> Spec:
    """A histogram of margins, coloured by who is ahead, zero marked."""
    import altair as alt

    domain = ["right answer ahead", "wrong answer ahead", "tie"]
    ahead = alt.Color("ahead:N", sort=None, scale=alt.Scale(domain=domain), legend=alt.Legend(title=None))
    chart = _chart(bars).mark_bar(binSpacing=1)
    return _spec(
        chart.encode(
            x=alt.X(
                "from:Q",
                title="reward of the best right answer minus the best wrong one",
                bin="binned",
                axis=alt.Axis(tickCount=6),
            ),
            x2="to:Q",
            y=alt.Y("examples:Q", title="examples", axis=alt.Axis(tickMinStep=1)),
            color=ahead,
            tooltip=["ahead:N", "from:Q", "to:Q", "examples:Q"],
        ),
        _zero("x"),
    )


def by_rank(points: Sequence[Point], chance: float) -> Spec:
    """The share of right answers at each rank of the reward, and what chance would give."""
    import altair as alt

    x = alt.X("rank:O", title="rank of the reward (1 is the highest)", axis=alt.Axis(labelAngle=0))
    base = _chart(points).encode(x=x)
    tooltip = [alt.Tooltip("rank:O"), *_numbers("share", "low", "high"), alt.Tooltip("n:Q")]
    random = _chart([{"share": chance}]).mark_rule(strokeDash=[4, 4], color="gray")
    y = alt.Y("share:Q", title="share right", scale=alt.Scale(zero=True))
    return _spec(
        base.mark_bar(width={"band": 0.6}).encode(y=y, tooltip=tooltip),
        base.mark_rule(strokeWidth=2).encode(y="low:Q", y2="high:Q"),
        random.encode(y="share:Q", tooltip=_numbers("share")),
    )


def dots(metrics: Sequence[Metric], title: str, *, ends: tuple[float, float] | None = None) -> Spec:
    """One figure a line with its interval, zero marked; the axis is as long as the figures take, or has `ends`."""
    import altair as alt

    scale = alt.Scale(domain=list(ends)) if ends else alt.Undefined
    points = [
        {
            "name": metric.label.replace("_", " "),
            "value": metric.value,
            "low": metric.value if metric.ci_low is None else metric.ci_low,
            "high": metric.value if metric.ci_high is None else metric.ci_high,
            "n": metric.n,
        }
        for metric in metrics
    ]
    base = _chart(points).encode(
        y=alt.Y("name:N", title=None, sort=None, axis=alt.Axis(labelLimit=220)),
        tooltip=[alt.Tooltip("name:N"), *_numbers("value", "low", "high"), alt.Tooltip("n:Q")],
    )
    spec = _spec(
        _zero("x"),
        base.mark_rule(strokeWidth=2).encode(
            x=alt.X("low:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6)), x2="high:Q"
        ),
        base.mark_point(filled=True, size=60, opacity=1).encode(x="value:Q"),
    )
    return spec | {"height": 22 * len(points)}


def counts(of: Mapping[str, int], title: str) -> Spec:
    """One bar a name, as long as its count."""
    import altair as alt

    base = _chart([{"name": name, "count": count} for name, count in of.items()]).encode(
        y=alt.Y("name:N", title=None, sort=None, axis=alt.Axis(labelLimit=220)),
        x=alt.X("count:Q", title=title, axis=alt.Axis(tickMinStep=1, tickCount=6)),
        tooltip=["name:N", "count:Q"],
    )
    return _spec(base.mark_bar()) | {"height": 26 * len(of)}


def lengths(bars: Sequence[Point], unit: str) -> Spec:
    """A histogram of lengths, coloured by how the responses ended."""
    import altair as alt

    endings = list(dict.fromkeys(bar["ending"] for bar in bars))
    colour = alt.Color("ending:N", scale=alt.Scale(domain=endings), legend=alt.Legend(title=None))
    return _spec(
        _chart(bars)
        .mark_bar(binSpacing=1)
        .encode(
            x=alt.X("from:Q", title=unit, bin="binned", axis=alt.Axis(tickCount=6)),
            x2="to:Q",
            y=alt.Y("responses:Q", title="responses", axis=alt.Axis(tickMinStep=1)),
            color=colour,
            tooltip=["ending:N", "from:Q", "to:Q", "responses:Q"],
        )
    )


def at_least(points: Sequence[Point]) -> Spec:
    """The share of responses of at least so many tokens, a line a condition."""
    import altair as alt

    names = list(dict.fromkeys(point["condition"] for point in points))
    colour = alt.Color("condition:N", scale=alt.Scale(domain=names), legend=alt.Legend(title=None))
    base = _chart(points).encode(
        x=alt.X("tokens:Q", title="tokens", axis=alt.Axis(tickCount=6)),
        y=alt.Y("share:Q", title="share at least so long", scale=alt.Scale(domain=[0, 1])),
        color=colour,
        tooltip=["condition:N", "tokens:Q", *_numbers("share"), "n:Q"],
    )
    return _spec(base.mark_line(interpolate="step-before"), base.mark_point(filled=True, size=12))


def risk(points: Sequence[Point], rulers: Mapping[str, Sequence[Point]], names: Sequence[str]) -> Spec:
    """Errors among what is kept against how much is, one line for each of `names`; `rulers` are dashed."""
    import altair as alt

    x = alt.X(
        "kept:Q", title="share kept, the surest first", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=5)
    )
    y = alt.Y("risk:Q", title="share wrong", scale=alt.Scale(zero=True))
    dashed = [_chart(ruler).mark_line(strokeDash=[4, 4], color="gray").encode(x=x, y=y) for ruler in rulers.values()]
    return _spec(*dashed, *_points_with_intervals(points, x, y, "by", names))


def curve(metrics: Sequence[Metric], name: str, unit: str) -> Spec:
    """One metric along its x, as best-of-k along k, with its intervals."""
    import altair as alt

    points = [
        {
            "series": name,
            "at": metric.at,
            "value": metric.value,
            "low": metric.value if metric.ci_low is None else metric.ci_low,
            "high": metric.value if metric.ci_high is None else metric.ci_high,
            "n": metric.n,
        }
        for metric in metrics
    ]
    y = alt.Y("value:Q", title=unit, scale=alt.Scale(zero=False))
    return _spec(*_points_with_intervals(points, alt.X("at:Q", title="at"), y, "series", [name]))


def _points_with_intervals(points: Sequence[Point], x: Any, y: Any, series: str, names: Sequence[str]) -> list[Any]:
    """Lines through points with bars for intervals, one colour and shape a series."""
    import altair as alt

    scale = alt.Scale(domain=list(names))
    legend = alt.Legend(title=None)
    base = _chart(points).encode(x=x, color=alt.Color(f"{series}:N", scale=scale, legend=legend))
    value = y.to_dict()["field"]
    tooltip = [alt.Tooltip(f"{series}:N"), *_numbers(x.to_dict()["field"], value, "low", "high"), alt.Tooltip("n:Q")]
    return [
        base.mark_line(strokeWidth=1.5).encode(y=y),
        base.mark_rule(strokeWidth=1.5).encode(y="low:Q", y2="high:Q"),
        base.mark_point(filled=True, size=45, opacity=1).encode(
            y=y, shape=alt.Shape(f"{series}:N", scale=scale, legend=legend), tooltip=tooltip
        ),
    ]


def _chart(points: Sequence[Point]) -> Any:
    import altair as alt

    return alt.Chart(alt.InlineData(values=list(points)))


def _zero(axis: str) -> Any:

    at_zero = _chart([{"zero": 0}]).mark_rule(color="gray", strokeDash=[4, 4])
    return at_zero.encode(**{axis: "zero:Q"})


def _numbers(*fields: str) -> list[Any]:
    import altair as alt

    return [alt.Tooltip(f"{field}:Q", format=".4~g") for field in fields]


def _spec(*layers: Any) -> Spec:
    """Layers as one specification that is as wide as the page lets it be."""
    import altair as alt

    spec: Spec = alt.layer(*layers).properties(width="container", height=_HEIGHT).to_dict()
    return {key: value for key, value in spec.items() if key not in ("$schema", "config")}
