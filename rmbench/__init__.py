"""rmbench: can this reward be trusted? Scores reward models on benchmarks and answers with intervals.

The public API is what `__all__` lists. Importing it loads nothing heavy: each name is fetched on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rmbench.doctor.examine import diagnose as diagnose
    from rmbench.errors import DataError as DataError
    from rmbench.errors import ModelError as ModelError
    from rmbench.errors import ResultError as ResultError
    from rmbench.errors import RmbenchError as RmbenchError
    from rmbench.errors import UsageError as UsageError
    from rmbench.judged_results import compare_results as compare_results
    from rmbench.judged_results import objective_mismatch as objective_mismatch
    from rmbench.judged_results import overoptimize as overoptimize
    from rmbench.judged_results import reward_distances as reward_distances
    from rmbench.judged_results import select_responses as select_responses
    from rmbench.judged_results import selection_at_n as selection_at_n
    from rmbench.judged_results import write_report as write_report
    from rmbench.models.spec import load_model as load_model
    from rmbench.models.spec import open_model as open_model
    from rmbench.plugins import load_task as load_task
    from rmbench.results.schema import TaskResult as TaskResult
    from rmbench.runs.evaluate import evaluate as evaluate
    from rmbench.runs.score import score as score
    from rmbench.types import Reward as Reward

_HOMES = {
    "DataError": "rmbench.errors",
    "ModelError": "rmbench.errors",
    "ResultError": "rmbench.errors",
    "Reward": "rmbench.types",
    "RmbenchError": "rmbench.errors",
    "TaskResult": "rmbench.results.schema",
    "UsageError": "rmbench.errors",
    "compare_results": "rmbench.judged_results",
    "diagnose": "rmbench.doctor.examine",
    "evaluate": "rmbench.runs.evaluate",
    "load_model": "rmbench.models.spec",
    "load_task": "rmbench.plugins",
    "objective_mismatch": "rmbench.judged_results",
    "open_model": "rmbench.models.spec",
    "overoptimize": "rmbench.judged_results",
    "reward_distances": "rmbench.judged_results",
    "score": "rmbench.runs.score",
    "select_responses": "rmbench.judged_results",
    "selection_at_n": "rmbench.judged_results",
    "write_report": "rmbench.judged_results",
}

__all__ = [
    "DataError",
    "ModelError",
    "ResultError",
    "Reward",
    "RmbenchError",
    "TaskResult",
    "UsageError",
    "compare_results",
    "diagnose",
    "evaluate",
    "load_model",
    "load_task",
    "objective_mismatch",
    "open_model",
    "overoptimize",
    "reward_distances",
    "score",
    "select_responses",
    "selection_at_n",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rmbench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
