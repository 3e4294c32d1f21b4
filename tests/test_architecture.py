"""Imports point one way, there is no cycle, and what is heavy is imported inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "transformers", "datasets", "pandas", "scipy", "sklearn", "pyarrow", "tokenizers", "peft", "tabulate",
         "altair", "vl_convert"}  # fmt: skip

# Each layer may import itself and those before it; a module belongs to the longest prefix that it has here
LAYERS = [
    ["rmbench.errors", "rmbench.types", "rmbench.cache", "rmbench.device", "rmbench.bounded"],
    ["rmbench.plugins", "rmbench.metrics", "rmbench.calibration", "rmbench.data", "rmbench.results"],
    ["rmbench.models.base", "rmbench.policies.base"],
    ["rmbench.checkpoints"],
    ["rmbench.models", "rmbench.policies"],
    ["rmbench.forwards"],
    ["rmbench.scoring"],
    ["rmbench.kinds"],
    ["rmbench.tasks", "rmbench.data_cards"],
    ["rmbench.runs.loading", "rmbench.runs.recognise"],
    ["rmbench.runs"],
    ["rmbench.optimise"],
    ["rmbench.leaderboard", "rmbench.compare", "rmbench.correlate", "rmbench.report"],
    ["rmbench.audit", "rmbench.doctor"],
    ["rmbench.cli", "rmbench.demo", "rmbench.__main__", "rmbench"],
]
NEVER = [("rmbench.tasks", "rmbench.models"), ("rmbench.scoring", "rmbench.data")]
ONLY = {
    "rmbench.audit": (
        "rmbench.audit",
        "rmbench.kinds",
        "rmbench.results",
        "rmbench.data",
        "rmbench.metrics",
        "rmbench.bounded",
        "rmbench.errors",
        "rmbench.types",
    ),
    "rmbench.leaderboard": (
        "rmbench.leaderboard",
        "rmbench.calibration",
        "rmbench.correlate",
        "rmbench.plugins",
        "rmbench.results",
        "rmbench.metrics",
        "rmbench.errors",
        "rmbench.types",
    ),
    "rmbench.compare": (
        "rmbench.compare",
        "rmbench.results",
        "rmbench.metrics",
        "rmbench.errors",
        "rmbench.types",
    ),
    "rmbench.correlate": (
        "rmbench.correlate",
        "rmbench.results",
        "rmbench.metrics",
        "rmbench.bounded",
        "rmbench.errors",
        "rmbench.types",
    ),
    "rmbench.doctor": (
        "rmbench.doctor",
        "rmbench.scoring",
        "rmbench.forwards",
        "rmbench.models",
        "rmbench.checkpoints",
        "rmbench.device",
        "rmbench.errors",
        "rmbench.types",
    ),
    "rmbench.optimise": (
        "rmbench.optimise",
        "rmbench.results",
        "rmbench.metrics",
        "rmbench.bounded",
        "rmbench.errors",
        "rmbench.types",
    ),
    "rmbench.report": (
        "rmbench.report",
        "rmbench.optimise",
        "rmbench.cache",
        "rmbench.results",
        "rmbench.metrics",
        "rmbench.calibration",
        "rmbench.errors",
        "rmbench.types",
    ),
}
Sources = Mapping[str, str]


def sources() -> dict[str, str]:
    """Module name -> source of the whole project."""
    found = {}
    for folder, package in (
        (ROOT / "rmbench", "rmbench"),
        (ROOT / "tasks", "rmbench.tasks"),
        (ROOT / "demo", "rmbench.demo"),
    ):
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path.read_text()
    return found


def imports(source: str, *, lazy: bool) -> Iterator[str]:
    """What a module imports: at the top level, and inside functions too if `lazy`; never under TYPE_CHECKING."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{name.name}" for name in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if (inside and not lazy) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            continue
        waiting += ast.iter_child_nodes(node)


def layer(module: str) -> int:
    fits = [(len(name), i) for i, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}.")]
    return max(fits)[1]


def within(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def wrong_imports(project: Sources) -> list[str]:
    """`a imports b` for every import against the direction of the layers."""
    return sorted(
        f"{module} imports {other}"
        for module, source in project.items()
        for other in set(imports(source, lazy=True))
        if other in project
        and other != "rmbench"
        and (
            layer(other) > layer(module)
            or any(within(module, a) and within(other, b) for a, b in NEVER)
            or any(within(module, room) and not any(within(other, b) for b in some) for room, some in ONLY.items())
        )
    )


def cycles(project: Sources) -> list[str]:
    """Modules that reach themselves through imports, at the top level or inside functions."""
    graph = {
        module: {other for other in imports(source, lazy=True) if other in project and other != module}
        for module, source in project.items()
    }
    found = []
    for start, first in graph.items():
        seen: set[str] = set()
        waiting = list(first)
        while waiting:
            module = waiting.pop()
            if module not in seen:
                seen.add(module)
                waiting += graph[module]
        if start in seen:
            found.append(start)
    return sorted(found)


def heavy_imports(project: Sources) -> list[str]:
    """`a imports b` for everything heavy that is imported when a module is."""
    return sorted(
        f"{module} imports {other}"
        for module, source in project.items()
        for other in set(imports(source, lazy=False))
        if other.split(".")[0] in HEAVY
    )


def test_imports_point_one_way() -> None:
    assert wrong_imports(sources()) == []


def test_there_is_no_cycle() -> None:
    assert cycles(sources()) == []


def test_nothing_heavy_is_imported_at_top_level() -> None:
    assert heavy_imports(sources()) == []


def test_an_injected_wrong_import_is_found() -> None:
    project = sources()
    project["rmbench.metrics.comparison"] += "\nfrom rmbench.runs.evaluate import evaluate\n"
    project["rmbench.tasks.preference"] += "\ndef f():\n    import rmbench.models.scores\n"
    project["rmbench.leaderboard.build"] += "\ndef f():\n    from rmbench.data import files\n"
    found = wrong_imports(project)
    assert "rmbench.metrics.comparison imports rmbench.runs.evaluate" in found
    assert "rmbench.tasks.preference imports rmbench.models.scores" in found
    assert "rmbench.leaderboard.build imports rmbench.data.files" in found


def test_an_injected_cycle_is_found() -> None:
    project = sources()
    project["rmbench.types"] += "\ndef f():\n    from rmbench.models.base import Subject\n"
    assert {"rmbench.types", "rmbench.models.base"} <= set(cycles(project))


def test_an_injected_torch_import_is_found() -> None:
    project = sources()
    project["rmbench.types"] += "\nimport torch.nn as nn\n"
    assert heavy_imports(project) == ["rmbench.types imports torch.nn"]


def test_no_room_for_leftovers() -> None:
    named = {part for module in sources() for part in module.split(".")}
    assert not named & {"utils", "util", "helpers", "helper", "common", "misc"}
