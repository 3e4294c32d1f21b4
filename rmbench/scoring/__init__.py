"""Scoring: `score` is the only place that decides how a model is run.

`plan` says what has to be run, `loop` runs a TokenModel's forwards, `store` keeps what came out.
"""

from rmbench.scoring.dispatch import Progress, Tally, score
from rmbench.scoring.store import Store, cache_folder

__all__ = ["Progress", "Store", "Tally", "cache_folder", "score"]
