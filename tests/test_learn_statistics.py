"""Intervals cover the truth, pairs are judged as McNemar does, and rank violations are those of a table done by hand."""

import numpy as np
import pytest

from phototwin.errors import InputError
from phototwin.learn.statistics import (
    METHODS,
    compare_paired,
    narrow_enough,
    rank_violation,
    rate_correlation,
    success_rate,
)


def test_wilson_and_exact_are_those_of_the_textbook():
    """8 of 10: Brown, Cai, DasGupta's formulas, done by hand."""
    wilson, exact = success_rate(8, 10), success_rate(8, 10, method="exact")
    assert np.allclose([wilson.low, wilson.high], [0.4902, 0.9433], atol=1e-4)
    assert np.allclose([exact.low, exact.high], [0.4439, 0.9748], atol=1e-4)
    assert str(wilson) == "80 % [49, 94] (8 of 10)"


@pytest.mark.parametrize("method", METHODS)
def test_intervals_hold_the_rate_lie_within_bounds_and_mirror(method):
    for successes, trials in ((0, 5), (5, 5), (1, 7), (50, 100), (999, 1000), (0, 0)):
        found, mirrored = (success_rate(k, trials, method=method) for k in (successes, trials - successes))
        assert 0 <= found.low <= found.rate + 1e-9 or trials == 0
        assert found.rate <= found.high + 1e-9 and found.high <= 1
        assert np.allclose([found.low, found.high], [1 - mirrored.high, 1 - mirrored.low], atol=1e-6)
    assert success_rate(0, 9, method=method).low == 0.0 and success_rate(9, 9, method=method).high == 1.0


@pytest.mark.parametrize("truth", [0.03, 0.3, 0.5, 0.85, 0.97])
def test_intervals_cover_the_truth_as_often_as_they_say(truth):
    """Exact over all outcomes of 100 trials: no sampling."""
    from scipy.stats import binom

    chance = binom.pmf(np.arange(101), 100, truth)
    for method, least in (("wilson", 0.93), ("exact", 0.95), ("always", 0.95)):
        rates = [success_rate(k, 100, method=method) for k in range(101)]
        covered = chance[[rate.low <= truth <= rate.high for rate in rates]].sum()
        assert covered >= least, method


@pytest.mark.parametrize("truth", [0.5, 0.9, 0.99])
def test_whoever_stops_when_it_is_narrow_enough_is_still_right(truth):
    """Simulated runs that stop early; Wilson's interval, taken at the same moments, may be right less often than it says."""
    rng = np.random.default_rng(0)
    stops, covered = [], 0
    for _ in range(300):
        done = np.cumsum(rng.random(2000) < truth)
        n = next(n for n in range(10, 2001, 10) if narrow_enough(int(done[n - 1]), n, 0.1))
        rate = success_rate(int(done[n - 1]), n, method="always")
        covered += rate.low <= truth <= rate.high
        stops.append(n)
    assert covered >= 0.95 * 300
    assert np.mean(stops) < 400


@pytest.mark.parametrize("confidence", [0.95, 1 - 1e-9, 1 - 1e-15])
@pytest.mark.parametrize("successes", [1, 2, 3])
def test_an_interval_that_must_be_sure_of_nearly_everything_is_all_of_it(successes, confidence):
    rate = success_rate(successes, 4, confidence, "always")
    assert 0 <= rate.low <= successes / 4 <= rate.high <= 1
    assert confidence < 0.99 or rate.high - rate.low > 0.9


def test_good_policies_are_told_sooner():
    needed = [next(n for n in range(1, 2000) if narrow_enough(round(p * n), n, 0.1)) for p in (0.5, 0.9, 1.0)]
    assert needed[0] > needed[1] > needed[2]
    assert not narrow_enough(0, 0, 0.5)


def test_paired_episodes_are_judged_by_those_that_differ():
    """15 against 5: two-sided exact binomial by hand, 2 P(X >= 15 | 20, 1/2) = 43400 / 2^20."""
    first = np.array([True] * 15 + [False] * 5 + [True] * 60 + [False] * 20)
    second = np.array([False] * 15 + [True] * 5 + [True] * 60 + [False] * 20)
    found = compare_paired(first, second)
    assert (found.trials, found.only_first, found.only_second) == (100, 15, 5)
    assert np.isclose(found.difference, 0.1) and np.isclose(found.p_value, 43400 / 2**20)
    assert compare_paired(second, first).difference == -found.difference
    assert compare_paired(first, first).p_value == 1.0


def test_equal_policies_are_rarely_called_different():
    rng = np.random.default_rng(1)
    called = [compare_paired(*(rng.random((2, 100)) < 0.8)).p_value < 0.05 for _ in range(400)]
    assert np.mean(called) <= 0.05


def test_rank_violation_and_correlation_of_a_table_done_by_hand():
    """Policies A .9, B .6, C .5, D .1; simulation swaps A with B, and C with D.

    A is on the wrong side of B alone (.3), B of A (.3), C of D (.4), D of C (.4): (.3 + .3 + .4 + .4) / 4 = .35.
    Deviations (.375, .075, -.025, -.425) and (.1, .3, -.4, .0): r = (.0375 + .0225 + .01) / sqrt(.3275 * .26).
    """
    real, simulated = [0.9, 0.6, 0.5, 0.1], [0.6, 0.8, 0.1, 0.5]
    assert np.isclose(rank_violation(real, simulated), 0.35)
    assert np.isclose(rate_correlation(real, simulated), 0.07 / np.sqrt(0.3275 * 0.26))
    assert rank_violation(real, [0.4, 0.3, 0.2, 0.1]) == 0.0
    assert np.isclose(rate_correlation(real, np.array(real) * 0.5 + 0.1), 1.0)
    assert np.isnan(rate_correlation(real, [0.5] * 4)) and np.isnan(rate_correlation([0.1] * 4, simulated))


def test_policies_that_simulation_cannot_tell_apart_are_a_violation_on_one_side():
    assert np.isclose(rank_violation([0.8, 0.2], [0.5, 0.5]), 0.3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: success_rate(5, 4),
        lambda: success_rate(-1, 4),
        lambda: success_rate(1, 4, method="wald"),
        lambda: compare_paired([True], [True, False]),
        lambda: compare_paired([], []),
        lambda: rank_violation([0.5], [0.5]),
        lambda: rate_correlation([0.5, 0.4], [0.5]),
    ],
)
def test_what_makes_no_sense_is_refused(call):
    with pytest.raises(InputError):
        call()
