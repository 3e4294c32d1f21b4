"""All figures of a report as one long table: a row a point of a curve, or a figure, with its interval."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rmbench.errors import ResultError
from rmbench.metrics.curve import Curve, Figure
from rmbench.optimise.report import Contrast, Entrant, OptimisationReport
from rmbench.results.files import atomically, put

COLUMNS = ("reward", "view", "what", "at", "kl", "value", "low", "high", "p", "p_holm")
_CURVES = ("gold", "proxy", "tilted", "poor_wins", "good_loses", "weighted_majority", "distinct")
_FIGURES = ("best_n", "gold_at_best", "gold_at_end", "gain_at_end", "degree", "proxy_rise", "tilted_gap", "rank_bias",
            "variance_within")  # fmt: skip
_RULERS = ("oracle", "majority", "pass_at", "noisy_oracle")
_TEXTS = ("reward", "view", "what")
Row = dict[str, Any]


def rows(report: OptimisationReport) -> Iterator[Row]:
    """One row a number. `at` is the n of best-of-n, the strength of a tilt or the size of a group, nan where there is
    none; rulers have no reward, and a contrast has the names of both."""
    for name in _RULERS:
        yield from _curve("", "", name, getattr(report, name))
    yield _row("", "", "random", report.random)
    for entrant in report.entrants:
        yield from _of_entrant(entrant)
    for contrast in report.contrasts:
        yield _of_contrast(contrast)
    for one in report.measured:
        yield _row(one.reward, "", f"measured: {one.method}", one.gold) | {"kl": one.kl}


def write_tables(report: OptimisationReport, folder: Path) -> list[Path]:
    """Writes `overoptimize.json` and `overoptimize-figures.csv` and `.parquet` into a folder, which is made.

    Their paths, in that order. No table is called like the JSON: a JSON beside a Parquet of its name is a result.
    Raises ResultError where they cannot be written.
    """
    try:
        return _write(report, folder)
    except OSError as error:
        raise ResultError(f"{folder}: cannot write the tables ({error.strerror or error})") from error


def _write(report: OptimisationReport, folder: Path) -> list[Path]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    names = ("overoptimize.json", "overoptimize-figures.csv", "overoptimize-figures.parquet")
    as_json, as_csv, as_parquet = (folder / name for name in names)
    put(as_json, f"{report.json()}\n".encode())
    every = list(rows(report))
    put(as_csv, _csv(every).encode())
    types = {name: pa.string() if name in _TEXTS else pa.float64() for name in COLUMNS}
    arrays = {
        name: pa.array([row[name] for row in every], kind, from_pandas=name not in _TEXTS)
        for name, kind in types.items()
    }
    atomically(as_parquet, lambda path: pq.write_table(pa.table(arrays), path, compression="zstd"))
    return [as_json, as_csv, as_parquet]


def _csv(every: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in every:
        writer.writerow([_cell(row[name]) for name in COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return "" if isinstance(value, float) and math.isnan(value) else value


def _of_entrant(entrant: Entrant) -> Iterator[Row]:
    named = entrant.name, entrant.view
    for name in _CURVES:
        yield from _curve(*named, name, getattr(entrant, name))
    for name in _FIGURES:
        if (figure := getattr(entrant, name)) is not None:
            yield _row(*named, name, figure)
    yield _row(*named, "turns_over", Figure(math.nan)) | {"p": entrant.turns_over_p}
    for fit in entrant.fits:
        for name in ("a", "b", "optimum_kl", "optimum_n", "peak"):
            yield _row(*named, f"fit of {fit.form}: {name}", getattr(fit, name))
    for flip in entrant.sign_flips:
        for name in ("by_noise", "against_gold"):
            figure = getattr(flip, name)
            yield _row(*named, f"sign flips {name}, baseline {flip.baseline}", figure) | {"at": float(flip.size)}
    for part in entrant.by_coverage:
        for name in ("poor_wins", "good_loses"):
            yield _row(*named, f"{name}, coverage {part.low:g} to {part.high:g}", getattr(part, name))
    for one in entrant.useful:
        yield _row(*named, f"useful range of {one.member}: low", Figure(one.low))
        yield _row(*named, f"useful range of {one.member}: high", one.high) | {"at": float(one.best_n)}


def _of_contrast(contrast: Contrast) -> Row:
    named = f"{contrast.first} - {contrast.second}"
    return _row(named, "", contrast.figure, contrast.difference) | {"p": contrast.p, "p_holm": contrast.p_holm}


def _curve(reward: str, view: str, what: str, curve: Curve | None) -> Iterator[Row]:
    if curve is None:
        return
    for at, kl, value, low, high in zip(curve.at, curve.kl, curve.value, curve.low, curve.high, strict=True):
        yield _row(reward, view, what, Figure(value, low, high)) | {"at": float(at), "kl": float(kl)}


def _row(reward: str, view: str, what: str, figure: Figure) -> Row:
    return {
        "reward": reward,
        "view": view,
        "what": what,
        "at": math.nan,
        "kl": math.nan,
        "value": float(figure.value),
        "low": float(figure.low),
        "high": float(figure.high),
        "p": math.nan,
        "p_holm": math.nan,
    }
