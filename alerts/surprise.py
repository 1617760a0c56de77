"""How surprising a window is: -log10 of the chance of as many negative texts, or as large a negative share, or more.

Counts: negative binomial (a Poisson rate that is itself uncertain and clustered), as in Noufaily et al. 2013, "An
improved algorithm for outbreak detection in multiple surveillance systems" (after Farrington et al. 1996).
Shares: a beta distribution matched to the beta-binomial's mean and variance, with the intra-class correlation that
texts about one story have (Griffiths 1973 for the beta-binomial). Both are regularised incomplete beta functions, so
they are vectorised, and defined for fractional masses as for counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

Floats = NDArray[np.float64]

_SMALLEST = 1e-60
_LN10 = float(np.log(10.0))


def count_surprise(observed: Floats, mean: Floats, relative_variance: Floats) -> Floats:
    """-log10 P(X >= observed) for X negative binomial with this mean and variance mean + relative_variance x mean^2."""
    size = 1.0 / np.maximum(relative_variance, 1e-9)
    tail = betainc(np.maximum(observed, 1e-9), size, mean / (mean + size))
    return np.asarray(-np.log10(np.maximum(tail, _SMALLEST)))


def share_surprise(observed: Floats, documents: Floats, share: Floats, correlation: Floats) -> Floats:
    """-log10 P(X >= observed of documents) where each is negative with chance `share` and pairs correlate.

    `correlation` in [0, 1) is the intra-class correlation of two texts of one window. The upper tail at a level is the
    lower tail of the complement (DLMF 8.17.4): SciPy's betainc is nine times as fast as its betaincc.
    """
    documents = np.maximum(documents, 1.0)
    spread = 1.0 + (documents - 1.0) * correlation
    strength = np.maximum(documents / spread - 1.0, 0.25)
    rest = np.clip((documents - observed + 0.5) / documents, 1e-9, 1.0)
    tail = betainc(strength * (1.0 - share), strength * share, rest)
    return np.asarray(-np.log10(np.maximum(tail, _SMALLEST)))


def drift_surprise(share_sum: Floats, count_sum: Floats) -> Floats:
    """-log10 of the chance that log-likelihood-ratio CUSUMs rise as high (Wald: P <= exp(-sum)); the smaller of two."""
    return np.minimum(share_sum, count_sum) / _LN10
