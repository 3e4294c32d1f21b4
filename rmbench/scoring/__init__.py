"""Scoring: a `Session` is the only place that decides how a model is run.

`forwards` turns requests into the answers of a TokenModel: `plan` says what has to be run, `loop` runs it. `Writing` is
to a policy what a session is to a reward model. The `Store` keeps what came out.
"""

from rmbench.scoring.explain import Explanation
from rmbench.scoring.session import Answered, Asking, Session
from rmbench.scoring.store import Store
from rmbench.scoring.usage import Progress, Usage
from rmbench.scoring.writing import Writing

__all__ = ["Answered", "Asking", "Explanation", "Progress", "Session", "Store", "Usage", "Writing"]
