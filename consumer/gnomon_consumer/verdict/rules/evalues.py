"""Anytime-valid evidence: e-processes of errors, e-values of segments. Pure.

An e-process starts at 1 and, while the null hypothesis holds, ever reaches 1/alpha with probability at most alpha
(Ville 1939; Ramdas, Grünwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", 2023).
"""

from collections.abc import Sequence
from math import exp, inf, log
from typing import Any

import numpy as np
from scipy.special import betainc, betaincc, betaln

from gnomon_schemas.arrays import Floats

HALF = 0.5
"""Jeffreys' prior: both parameters of the Beta mixture."""


def _log(x: float) -> float:
    return log(x) if x > 0 else -inf


def log_errors_below(errors: int, successes: int, limit: float) -> float:
    """Return ln E against "the error rate is at least `limit`": large means that the rate is shown to be below it.

    Beta-binomial mixture over [0, limit) by Jeffreys' prior (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon 2021,
    section 3.3), against the nearest point of the null, `limit` itself.
    """
    return _mixture(errors, successes, limit, betainc)


def log_errors_above(errors: int, successes: int, limit: float) -> float:
    """Return ln E against "the error rate is at most `limit`": large means that the rate is shown to be above it."""
    return _mixture(errors, successes, limit, betaincc)


def _mixture(errors: int, successes: int, limit: float, part: "np.ufunc") -> float:
    a, b = HALF + errors, HALF + successes
    posterior = float(betaln(a, b)) + _log(float(part(a, b, limit)))
    prior = float(betaln(HALF, HALF)) + _log(float(part(HALF, HALF, limit)))
    return posterior - prior - errors * log(limit) - successes * log(1 - limit)


def discordant(shadow_only: int, live_only: int) -> float:
    """Return E against "an error on one side only is as likely on either side".

    E = B(½ + b, ½ + c)/B(½, ½)·2^(b + c), a Beta-mixture of the sign test; b: the challenger alone failed,
    c: live alone.
    """
    b, c = shadow_only, live_only
    logarithm = float(betaln(HALF + b, HALF + c) - betaln(HALF, HALF)) + (b + c) * log(2)
    # Above the largest float, only "far above any alarm" matters.
    return exp(min(700.0, logarithm))


def t_evalue(t: Any, n: Any, g: float) -> Floats:
    """Return the e-value of a t statistic of `n` observations against "the mean is 0", two-sided.

    It reaches 1/alpha exactly where |t| reaches `confidence.t_radius(n, alpha, g)`:
    sqrt(r)·((1 + t²/(n-1))/(1 + r·t²/(n-1)))^(n/2), r = g/(g + n).
    """
    n = np.asarray(n, dtype=float)
    r = g / (g + n)
    scaled = np.asarray(t, dtype=float) ** 2 / np.maximum(n - 1, 1)
    value = np.sqrt(r) * ((1 + scaled) / (1 + r * scaled)) ** (n / 2)
    return np.where(n > 1, value, 1.0)


def harm_evalue(estimate: Any, standard_error: Any, margin: float, n: Any, g: float) -> Floats:
    """Return the e-value against "the oriented difference is at least -margin"; 0 on the harmless side.

    It is a part of a two-sided e-value, so its expectation is below 1 under the null, at any stopping time.
    """
    estimate, standard_error = np.asarray(estimate, dtype=float), np.asarray(standard_error, dtype=float)
    known = standard_error > 0
    t = np.divide(estimate + margin, standard_error, out=np.zeros_like(estimate), where=known)
    return np.where(known & (t < 0), t_evalue(t, n, g), 0.0)


def e_bh(evalues: Sequence[float], alpha: float) -> list[int]:
    """Return the positions of the rejected hypotheses by e-BH, under any dependence.

    Wang and Ramdas, "False discovery rate control with e-values" (2022): with the e-values in falling order the k*
    largest are rejected, k* the largest k for which e_(k) >= K/(alpha·k).
    """
    order = sorted(range(len(evalues)), key=lambda at: -evalues[at])
    kept = [k for k, at in enumerate(order, start=1) if evalues[at] >= len(evalues) / (alpha * k)]
    return sorted(order[: max(kept, default=0)])
