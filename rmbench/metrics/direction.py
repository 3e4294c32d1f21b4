"""Which metrics are better the lower they are; every other one is taken to be better the higher it is."""

from __future__ import annotations

import re

_LOWER_IS_BETTER = re.compile(
    r"mean_rank|loss|log_loss|brier|brier_score|ece.*|reliability|flip_rate|padded_wrong_preferred|"
    r"overflow_preferred.*|redundant_preferred.*|rise_rate_.*|reward_(sd_)?per_.*|reward_overflow|"
    r"selected_length_ratio_.*|effect_(?!tight|truncated).*|csr_.*|refused|empty"
)


def lower_is_better(metric: str) -> bool:
    """Whether a metric of this name, of rmbench's own or as papers call it, counts what should be little."""
    return _LOWER_IS_BETTER.fullmatch(metric) is not None
