"""How far a measured share may be from the true one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

Z = 1.96
"""Of 95 %: two-sided, normal."""
TAIL = 0.025
"""Of 95 % beyond each bound."""
RESAMPLES = 4000
Groups = Sequence[tuple[int, int]]
"""(hits, tries) of what was drawn independently of the rest, such as the subjects of a picture, or all pictures of an instance."""
Bounds = Callable[[Groups], tuple[float, float]]
"""Of 95 % of a share."""


def interval(groups: Groups) -> tuple[float, float]:
    """Bounds of 95 % of a share.

    Wilson's interval (E. B. Wilson, 1927, "Probable inference") with the number of tries that would be as telling if all were
    independent, from the linearised variance of a ratio over clusters (Korn and Graubard, 1998, "Confidence intervals for proportions with
    small expected number of positive counts"); never more than there are tries, and as many as groups where they do not differ. Raises
    ValueError without tries.
    """
    tried = [(hits, tries) for hits, tries in groups if tries]
    tries = sum(count for _, count in tried)
    if not tries:
        raise ValueError("A share of nothing has no interval.")
    share = sum(hits for hits, _ in tried) / tries
    count = len(tried)
    spread = sum((hits - share * own) ** 2 for hits, own in tried) / tries**2 * count / max(1, count - 1)
    telling = min(float(tries), share * (1 - share) / spread) if spread and count > 1 else float(count)
    middle = (share + Z**2 / (2 * telling)) / (1 + Z**2 / telling)
    reach = Z / (1 + Z**2 / telling) * math.sqrt(share * (1 - share) / telling + Z**2 / (4 * telling**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def bootstrap(groups: Groups) -> tuple[float, float]:
    """The same from the share's quantiles over groups drawn anew with replacement, each as a whole (B. Efron, 1979, "Bootstrap methods",
    percentile interval); interval() where no draw differs from another, as if there were nothing to doubt. The draws are the same ones
    every time. Raises ValueError without tries.
    """
    tried = np.array([group for group in groups if group[1]]).reshape(-1, 2)  # [G, 2]
    if not len(tried):
        raise ValueError("A share of nothing has no interval.")
    drawn = tried[np.random.default_rng(0).integers(len(tried), size=(RESAMPLES, len(tried)))].sum(axis=1)  # [R, 2]
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [TAIL, 1 - TAIL])
    return (float(low), float(high)) if low < high else interval(groups)
