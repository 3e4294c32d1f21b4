"""Plots of one reward on a pool, small enough to stand beside those of the others, with their axes.

A reward is never told from another by colour: each has a plot of its own, in which the others are a faint ground. The
colours tell roles apart, and every role also has a dash or a shape; a key beside the plots names them. There are dozens
of plots on a page, so that they are written as specifications, not through altair, which would take seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rmbench.metrics.curve import Curve, Figure
from rmbench.metrics.gold_fits import Fit
from rmbench.optimise.report import Coverage, Entrant, Measured, SignFlip
from rmbench.report.charts import Spec
from rmbench.report.curves import Point

Ends = tuple[float, float]
Layer = dict[str, Any]

_HEIGHT = 170
_FIT_POINTS = 48
_DIGITS = 5
_SHARES = (0.0, 1.0)
_NUMBERS = ("kl", "value", "low", "high")
_CURVE_TIPS = ("n", *_NUMBERS)

DASHES = {
    "oracle": [6, 3],
    "majority": [2, 2],
    "noisy": [8, 3, 2, 3],
    "random": [1, 2],
    "second": [4, 2],
    "best of n": [8, 3],
    "reinforcement learning": [6, 2, 1, 2],
}


def ends_of(numbers: Iterable[float]) -> Ends:
    """The ends of an axis on which all finite numbers have room; 0 and 1 where there is none."""
    finite = [number for number in numbers if math.isfinite(number)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = 0.04 * (high - low) or 0.05 * (abs(high) or 1.0)
    return low - room, high + room


def numbers_of(*curves: Curve | None) -> list[float]:
    """Every value of curves and of their intervals."""
    return [x for one in curves if one is not None for x in (*one.value, *one.low, *one.high)]


def gold_over_n(
    entrant: Entrant, others: Sequence[Entrant], rulers: Mapping[str, Curve], random: float, ends: Ends
) -> Spec:
    """Gold of best-of-n before those of others, with what an oracle, a vote and chance get, and the best n."""
    layers = [_flat(random), _ground(others, "gold")]
    layers += [_line(curve, "soft", dash=DASHES[name]) for name, curve in rulers.items()]
    layers += _banded(entrant.gold, "first")
    if entrant.weighted_majority:
        layers.append(_line(entrant.weighted_majority, "second", dash=DASHES["second"], width=1.5))
    best = _number(entrant.best_n.value)
    at_best = [value for at, value in zip(entrant.gold.at, entrant.gold.value, strict=True) if at == best]
    if at_best:
        layers += _best(entrant.best_n, at_best[0], ends[0])
    return _spec(layers, _sizes(entrant.gold.at), _y("gold", ends))


def over_n(curve: Curve, others: Sequence[Entrant], field: str, title: str, ends: Ends | None = None) -> Spec | None:
    """A curve of one reward over n, before the same `field` of others; None where it has no point."""
    if not _points(curve):
        return None
    return _spec([_ground(others, field), *_banded(curve, "first")], _sizes(curve.at), _y(title, ends))


def gold_over_kl(entrant: Entrant, measured: Sequence[Measured], random: float, ends: Ends) -> Spec:
    """Gold over KL, along its root: best-of-n, the tilted policy, both fits, and policies that were measured."""
    reach = max([*entrant.gold.kl, *(policy.kl for policy in measured), 1e-3])
    layers = [_flat(random), *(_drawn_fit(fit, reach, ends) for fit in entrant.fits)]
    layers += _banded(entrant.gold, "first", x="kl")
    if _points(entrant.tilted):
        layers.append(_line(entrant.tilted, "second", dash=DASHES["second"], width=2, x="kl"))
    if measured:
        layers += _measured(measured)
    scale = {"type": "sqrt", "domain": [0, reach], "nice": False}
    x = {
        "field": "kl",
        "type": "quantitative",
        "title": "KL (nats)",
        "scale": scale,
        "axis": {"tickCount": 5, "grid": False},
    }
    return _spec(layers, x, _y("gold", ends))


def both_sides(poor_wins: Curve, good_loses: Curve, by_chance: Curve | None) -> Spec:
    """How often poor samples win and good ones lose, over n, and how often they would lose by chance."""
    layers = [] if by_chance is None else [_line(by_chance, "soft", dash=DASHES["random"], width=1.5)]
    layers += [*_banded(good_loses, "first"), *_banded(poor_wins, "second", dash=DASHES["second"])]
    return _spec(layers, _sizes(poor_wins.at), _y("share", _SHARES))


def by_coverage(rows: Sequence[Coverage]) -> Spec:
    """Both sides by the share of a prompt's samples that are good."""
    layers: list[Layer] = []
    for field, style, shape, shift in (("good_loses", "first", "circle", -4), ("poor_wins", "second", "square", 4)):
        points = [
            {
                "bin": f"{100 * row.low:.0f}-{100 * row.high:.0f}",
                **_interval(getattr(row, field)),
                "prompts": row.prompts,
            }
            for row in rows
        ]
        layers += _dots(points, style, shape, ["bin", "prompts"], {"xOffset": shift})
    return _spec(layers, _ordinal("bin", "good samples of a prompt (%)"), _y("share", _SHARES))


def sign_flips(rows: Sequence[SignFlip], ends: Ends) -> Spec | None:
    """Signs turned by noise and signs that are not gold's, by the size of groups and their baseline."""
    layers: list[Layer] = []
    for field, style, shift in (("by_noise", "first", -8), ("against_gold", "second", 3)):
        for baseline, shape, step in (("mean", "circle", 0), ("median", "triangle-up", 5)):
            points = [
                {"size": row.size, "baseline": baseline, **_interval(getattr(row, field))}
                for row in rows
                if row.baseline == baseline and math.isfinite(getattr(row, field).value)
            ]
            if points:
                layers += _dots(points, style, shape, ["size", "baseline"], {"xOffset": shift + step})
    if not layers:
        return None
    return _spec(layers, _ordinal("size", "samples in a group"), _y("share", ends))


def compared(entrants: Sequence[Entrant], random: float, oracle: float) -> Spec:
    """Gold at its best and at the largest n, a line a reward, between what chance and an oracle get."""
    layers: list[Layer] = [
        _of([{"value": _round(value)}], {"type": "rule", "style": "soft", "strokeDash": DASHES[name]}, x="value")
        for name, value in (("random", random), ("oracle", oracle))
    ]
    names = [f"{number}. {short(one.title)}" for number, one in enumerate(entrants, 1)]  # two may be alike in short
    for field, style, shape, shift in (("gold_at_best", "first", "circle", -5), ("gold_at_end", "second", "square", 5)):
        points = [{"reward": name, **_interval(getattr(one, field))} for name, one in zip(names, entrants, strict=True)]
        layers += _dots(points, style, shape, ["reward"], {"yOffset": shift}, along="x")
    x = {"field": "value", "type": "quantitative", "title": "gold", "scale": {"zero": False}, "axis": {"tickCount": 5}}
    y = {"field": "reward", "type": "nominal", "title": None, "sort": None, "axis": {"labelLimit": 230}}
    ruled = [_placed(layer, {"x": x}) for layer in layers[:2]]
    return _layered([*ruled, *(_placed(layer, {"x": x, "y": y}) for layer in layers[2:])], 30 * len(entrants))


def fitted(fit: Fit, root: float) -> float:
    """Gold of a fit where the root of the KL is `root`, above 0."""
    return fit.start + root * (fit.a.value - fit.b.value * (root if fit.form == "best of n" else math.log(root)))


def short(name: str) -> str:
    """A name that fits beside a plot: its beginning and its end."""
    return name if len(name) <= 30 else f"{name[:17]}…{name[-12:]}"


def _points(curve: Curve) -> list[Point]:
    """Points of a curve that are numbers, with an interval of no length where it is open."""
    rows = zip(curve.at, curve.kl, curve.value, curve.low, curve.high, strict=True)
    return [
        {"n": _number(at), "kl": _round(kl), **_interval(Figure(value, low, high))}
        for at, kl, value, low, high in rows
        if math.isfinite(value)
    ]


def _interval(figure: Figure) -> Point:
    low, high = (end if math.isfinite(end) else figure.value for end in (figure.low, figure.high))
    return {"value": _round(figure.value), "low": _round(low), "high": _round(high)}


def _number(at: float) -> float | int | None:
    return int(at) if math.isfinite(at) and at == int(at) else _round(at)


def _round(number: float) -> float | None:
    return float(f"{number:.{_DIGITS}g}") if math.isfinite(number) else None


def _sizes(at: Sequence[float]) -> Layer:
    most = max([*at, 2])
    doublings = [2**power for power in range(int(math.log2(most)) + 1)]
    scale = {"type": "log", "base": 2, "domain": [1, most], "nice": False}
    axis = {"values": doublings, "format": "d", "grid": False}
    return {"field": "n", "type": "quantitative", "title": "n", "scale": scale, "axis": axis}


def _ordinal(field: str, title: str) -> Layer:
    return {"field": field, "type": "ordinal", "title": title, "sort": None, "axis": {"labelAngle": 0}}


def _y(title: str, ends: Ends | None) -> Layer:
    scale = {"zero": False} if ends is None else {"domain": list(ends), "nice": False}
    return {"field": "value", "type": "quantitative", "title": title, "scale": scale, "axis": {"tickCount": 4}}


def _of(points: Sequence[Point], mark: Layer, tips: Sequence[str] = (), **fields: str) -> Layer:
    """Marks of points, whose channels show `fields`; `tips` are shown under the pointer."""
    encoding: Layer = {channel: {"field": field, "type": "quantitative"} for channel, field in fields.items()}
    for end in encoding.keys() & {"x2", "y2"}:  # have the type of what they are the end of
        del encoding[end]["type"]
    if tips:
        encoding["tooltip"] = [
            {"field": tip, "type": "quantitative", "format": ".4~g"} if tip in _NUMBERS else {"field": tip}
            for tip in tips
        ]
    clipped = {**mark, "clip": True} if mark["type"] in ("line", "area", "rule") else mark
    return {"data": points, "mark": clipped, "encoding": encoding}


def _flat(value: float) -> Layer:
    mark = {"type": "rule", "style": "soft", "strokeDash": DASHES["random"]}
    return _of([{"value": _round(value)}] if math.isfinite(value) else [], mark, y="value")


def _ground(others: Sequence[Entrant], field: str) -> Layer:
    points = [
        {"n": point["n"], "value": point["value"], "of": number}
        for number, other in enumerate(others)
        for point in _points(getattr(other, field))
    ]
    layer = _of(points, {"type": "line", "style": "soft", "strokeWidth": 1, "opacity": 0.4}, x="n", y="value")
    layer["encoding"]["detail"] = {"field": "of"}
    return layer


def _line(curve: Curve, style: str, *, dash: Sequence[int], width: float = 1, x: str = "n") -> Layer:
    mark = {"type": "line", "style": style, "strokeDash": list(dash), "strokeWidth": width}
    return _of(_points(curve), mark, x=x, y="value")


def _banded(curve: Curve, style: str, *, dash: Sequence[int] = (), x: str = "n") -> list[Layer]:
    """A curve over the band of its intervals; its points answer to the pointer."""
    points = _points(curve)
    band, line = {"type": "area", "style": style, "opacity": 0.18}, {"type": "line", "style": style, "strokeWidth": 2}
    return [
        _of(points, band, x=x, y="low", y2="high"),
        _of(points, {**line, "strokeDash": list(dash)} if dash else line, x=x, y="value"),
        _of(points, {"type": "point", "style": style, "opacity": 0, "size": 70}, _CURVE_TIPS, x=x, y="value"),
    ]


def _best(best: Figure, gold: float, foot: float) -> list[Layer]:
    """The best n on the curve, and its interval along the foot of the plot, where it hides nothing."""
    low, high = (end if math.isfinite(end) else best.value for end in (best.low, best.high))
    point = {"best n": _number(best.value), "low": low, "high": high, "value": _round(gold)}
    dot = {"type": "point", "style": "ink", "filled": True, "size": 45, "opacity": 1}
    return [
        _of(
            [{**point, "value": foot}],
            {"type": "rule", "style": "ink", "strokeWidth": 4},
            x="low",
            x2="high",
            y="value",
        ),
        _of([point], dot, ("best n", "low", "high"), x="best n", y="value"),
    ]


def _drawn_fit(fit: Fit, reach: float, ends: Ends) -> Layer:
    """The curve of a fit as far as it lies within the ends of gold."""
    points = []
    for step in range(1, _FIT_POINTS + 1):
        root = math.sqrt(reach) * step / _FIT_POINTS
        gold = fitted(fit, root)
        if not ends[0] <= gold <= ends[1]:  # nor where it is no number
            break
        points.append({"kl": _round(root * root), "value": _round(gold)})
    mark = {"type": "line", "style": "ink", "strokeWidth": 1, "strokeDash": DASHES[fit.form]}
    return _of(points, mark, x="kl", y="value")


def _measured(policies: Sequence[Measured]) -> list[Layer]:
    """Policies as diamonds, those of a method joined, its name at the one that is furthest from where they began."""
    points = [{"kl": _round(one.kl), "method": short(one.method), **_interval(one.gold)} for one in policies]
    furthest = {point["method"]: point for point in sorted(points, key=lambda point: float(point["kl"] or 0))}
    joined = _of(points, {"type": "line", "style": "third", "strokeWidth": 1}, x="kl", y="value")
    joined["encoding"]["detail"] = {"field": "method"}
    diamond = {"type": "point", "style": "third", "shape": "diamond", "filled": True, "size": 60, "opacity": 1}
    words = {"type": "text", "style": "words", "align": "right", "dx": -4, "dy": -9, "limit": 120}
    named = _of(list(furthest.values()), words, x="kl", y="value")
    named["encoding"]["text"] = {"field": "method"}
    return [
        joined,
        _of(points, {"type": "rule", "style": "third"}, x="kl", y="low", y2="high"),
        _of(points, diamond, ("method", "kl", "value", "low", "high"), x="kl", y="value"),
        named,
    ]


def _dots(
    points: Sequence[Point], style: str, shape: str, tips: Sequence[str], shift: Layer, along: str = "y"
) -> list[Layer]:
    """Figures with their intervals along one axis, moved aside by `shift` from their place on the other."""
    dot = {"type": "point", "style": style, "shape": shape, "filled": True, "size": 45, "opacity": 1, **shift}
    return [
        _of(
            points, {"type": "rule", "style": style, "strokeWidth": 1.5, **shift}, **{along: "low", f"{along}2": "high"}
        ),
        _of(points, dot, (*tips, "value", "low", "high"), **{along: "value"}),
    ]


def _placed(layer: Layer, axes: Layer) -> Layer:
    """A layer whose channels have the scale and axis of `axes`, with fields of their own where they name one."""
    own = layer["encoding"]
    return {
        **layer,
        "encoding": {**own, **{channel: {**axis, **own.get(channel, {})} for channel, axis in axes.items()}},
    }


def _spec(layers: Sequence[Layer], x: Layer, y: Layer) -> Spec:
    axes = {"x": x, "y": y}
    return _layered([_placed(layer, _needed(layer, axes)) for layer in layers if layer["data"]], _HEIGHT)


def _needed(layer: Layer, axes: Layer) -> Layer:
    """A rule over the whole plot has no place on the other axis."""
    is_flat = layer["mark"]["type"] == "rule" and set(layer["encoding"]) == {"y"}
    return {"y": axes["y"]} if is_flat else axes


def _layered(layers: Sequence[Layer], height: int) -> Spec:
    """Layers as one specification that is as wide as the page lets it be; points of several layers stand once."""
    different = {id(layer["data"]): layer["data"] for layer in layers}
    names = {one: f"points {number}" for number, one in enumerate(different)}
    return {
        "width": "container",
        "height": height,
        "datasets": {names[one]: list(points) for one, points in different.items()},
        "layer": [{**layer, "data": {"name": names[id(layer["data"])]}} for layer in layers],
    }
