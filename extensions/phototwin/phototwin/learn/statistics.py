"""How sure a success rate is: intervals, paired comparison, stopping early, and how well simulation ranks what reality does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from phototwin.errors import InputError

METHODS = ("wilson", "exact", "always")
SPREAD = 0.5
"""Both parameters of the Beta prior over rates that ``always`` bets with; Jeffreys' prior."""


@dataclass(frozen=True)
class Rate:
    """A success rate and the interval that holds the true one with the stated confidence.

    Attributes:
        successes: Episodes that succeeded.
        trials: Episodes.
        low: Lower end of the interval, 0..1.
        high: Upper end.
        confidence: How often such intervals hold the truth.
        method: "wilson", "exact" (Clopper-Pearson) or "always" (holds at every moment, whenever one stops).
    """

    successes: int
    trials: int
    low: float
    high: float
    confidence: float = 0.95
    method: str = "wilson"

    @property
    def rate(self) -> float:
        """The share that succeeded; 0 without trials."""
        return self.successes / self.trials if self.trials else 0.0

    @property
    def half_width(self) -> float:
        """Half the length of the interval."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        """Success in per cent, with its interval."""
        return (
            f"{100 * self.rate:.0f} % [{100 * self.low:.0f}, {100 * self.high:.0f}] ({self.successes} of {self.trials})"
        )


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same episodes.

    Attributes:
        trials: Episodes that both drove.
        only_first: Those that only the first did.
        only_second: Those that only the second did.
        p_value: How likely so lopsided a split is where both are equally good (exact McNemar test, two sides).
    """

    trials: int
    only_first: int
    only_second: int
    p_value: float

    @property
    def difference(self) -> float:
        """Success of the first less that of the second."""
        return (self.only_first - self.only_second) / self.trials

    def __str__(self) -> str:
        """The difference in points and whether it may be chance."""
        return (
            f"{100 * self.difference:+.0f} points over {self.trials} paired episodes "
            f"({self.only_first} only the first, {self.only_second} only the second, p = {self.p_value:.3g})"
        )


def success_rate(successes: int, trials: int, confidence: float = 0.95, method: str = "wilson") -> Rate:
    """The rate of so many successes, with its interval.

    ``wilson`` is right on average over rates, ``exact`` never covers less than it says; both are for a number of trials that was
    fixed before. ``always`` is wider and stays right where the number depends on what was seen (``narrow_enough``).

    Args:
        successes: Episodes that succeeded.
        trials: Episodes.
        confidence: How often the interval shall hold the truth.
        method: One of ``METHODS``.

    Raises:
        InputError: The counts make no sense or the method is unknown.

    Source: Brown, Cai, DasGupta, "Interval Estimation for a Binomial Proportion", 2001; for "always": Robbins, "Statistical
    Methods Related to the Law of the Iterated Logarithm", 1970 (mixture of likelihood ratios and Ville's inequality).
    """
    if not 0 <= successes <= trials:
        raise InputError(f"{successes} successes of {trials} trials: expected 0 to as many as there are trials.")
    if method not in METHODS:
        raise InputError(f"Unknown interval '{method}': choose one of {', '.join(METHODS)}.")
    if trials == 0:
        return Rate(0, 0, 0.0, 1.0, confidence, method)
    if method == "always":
        low, high = _always(successes, trials, confidence)
    else:
        from scipy.stats import binomtest

        found = binomtest(successes, trials).proportion_ci(confidence, method)
        low, high = float(found.low), float(found.high)
    return Rate(successes, trials, low, high, confidence, method)


def _always(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Rates p at which the bet against p, the Beta mixture's likelihood over p's, has not yet won 1 / (1 - confidence)."""
    from scipy.optimize import brentq
    from scipy.special import betaln, xlog1py, xlogy

    failures = trials - successes
    mixture = betaln(successes + SPREAD, failures + SPREAD) - betaln(SPREAD, SPREAD)
    level = mixture + np.log(1 - confidence)

    def over(p: float) -> float:
        return float(xlogy(successes, p) + xlog1py(failures, -p) - level)

    peak, least, most = successes / trials, 1e-12, 1 - 1e-12
    low = 0.0 if successes == 0 or over(least) >= 0 else cast("float", brentq(over, least, peak))
    high = 1.0 if failures == 0 or over(most) >= 0 else cast("float", brentq(over, peak, most))
    return low, high


def narrow_enough(successes: int, trials: int, half_width: float, confidence: float = 0.95) -> bool:
    """True where an evaluation may stop: the interval that allows for stopping is as narrow as wanted."""
    return trials > 0 and success_rate(successes, trials, confidence, "always").half_width <= half_width


def compare_paired(first: Sequence[bool] | np.ndarray, second: Sequence[bool] | np.ndarray) -> Comparison:
    """Whether one of two policies is better, from the same episodes: those that both did or both missed say nothing.

    Args:
        first: Success of the first policy in each episode, (N,).
        second: Of the second, (N,), in the same order of the same episodes.

    Raises:
        InputError: There are no episodes or they are not the same number.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", 1947.
    """
    from scipy.stats import binomtest

    a, b = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if a.shape != b.shape or not a.size:
        raise InputError(
            f"A paired test needs the same episodes of both policies, got {a.size} and {b.size}: evaluate both with the same seed and episodes."
        )
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    p_value = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return Comparison(a.size, only_a, only_b, p_value)


def rank_violation(real: Sequence[float], simulated: Sequence[float]) -> float:
    """Mean Maximum Rank Violation: what is lost in real success by trusting the order of policies in simulation; 0 is best.

    For each policy the largest difference in real success to one that simulation ranks on the other side of it, averaged.

    Args:
        real: Success of each policy in reality, 0..1.
        simulated: Of the same policies in simulation.

    Raises:
        InputError: They are not as many, or fewer than two.

    Source: Li et al., "Evaluating Real-World Robot Manipulation Policies in Simulation" (SIMPLER), 2024, section IV.
    """
    r, s = _paired_rates(real, simulated)
    wrong = (s[:, None] < s[None]) != (r[:, None] < r[None])
    return float((np.abs(r[:, None] - r[None]) * wrong).max(1).mean())


def rate_correlation(real: Sequence[float], simulated: Sequence[float]) -> float:
    """Pearson's r between real and simulated success of the same policies, -1..1; nan where either is the same for all.

    Raises:
        InputError: As ``rank_violation``.
    """
    r, s = _paired_rates(real, simulated)
    if not np.ptp(r) or not np.ptp(s):  # less their mean they would be rounding errors
        return float("nan")
    r, s = r - r.mean(), s - s.mean()
    return float(r @ s / np.sqrt((r @ r) * (s @ s)))


def _paired_rates(real: Sequence[float], simulated: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    r, s = np.asarray(real, dtype=np.float64), np.asarray(simulated, dtype=np.float64)
    if r.shape != s.shape or r.ndim != 1 or len(r) < 2:
        raise InputError(
            f"Expected success of the same two or more policies in reality and in simulation, got {r.size} and {s.size}."
        )
    return r, s
