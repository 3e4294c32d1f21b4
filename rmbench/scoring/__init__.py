"""Scoring: `score` is the only place that decides how a model is run.

`forwards` turns requests into the answers of a TokenModel: `plan` says what has to be run, `loop` runs it. `store`
keeps what came out.
"""

from rmbench.scoring.dispatch import explain, score
from rmbench.scoring.explain import Explanation
from rmbench.scoring.store import Store
from rmbench.scoring.tally import Progress, Tally

__all__ = ["Explanation", "Progress", "Store", "Tally", "explain", "score"]
