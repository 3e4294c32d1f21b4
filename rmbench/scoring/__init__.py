"""Scoring: `score` is the only place that decides how a model is run.

`windows` turns requests into the answers of a TokenModel, whose forwards `rmbench.forwards` plans and runs. `store`
keeps what came out.
"""

from rmbench.scoring.dispatch import explain, score
from rmbench.scoring.explain import Explanation
from rmbench.scoring.store import Store
from rmbench.scoring.usage import Progress, Usage

__all__ = ["Explanation", "Progress", "Store", "Usage", "explain", "score"]
