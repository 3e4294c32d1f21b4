"""What a report is as one JSON document."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any


def as_json(report: Any) -> str:
    """A dataclass, or a list of them, with everything in it; nan and infinities, which JSON has not, are null."""
    content = [asdict(one) for one in report] if isinstance(report, Sequence) else asdict(report)
    return json.dumps(_finite(content), indent=1, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
