"""Scores on cases whose answer is known."""

import math

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

from benchmarks.curves import RunCurve, make_tasks
from benchmarks.predictions import PROBABILITIES, Prediction, invert_cdf
from benchmarks.scores import crps, cut_ratio, error_unit, interval_score, pit, score
from benchmarks.summaries import by_group, mean_over_groups, median_over_groups, worse_than_last_value


def gaussian_crps(mean, sd, truth):
    """Gneiting & Raftery 2007, Eq. 21."""
    z = (truth - mean) / sd
    return sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / math.sqrt(math.pi))


@pytest.mark.parametrize("z", [-4.0, -1.0, 0.0, 0.3, 2.0])
def test_crps_of_a_gaussian_agrees_with_its_closed_form(z):
    assert crps(Prediction.gaussian(3.0, 0.2), 3.0 + 0.2 * z) == pytest.approx(
        gaussian_crps(3.0, 0.2, 3.0 + 0.2 * z), rel=0.02
    )


def test_crps_of_a_point_is_its_absolute_error():
    assert crps(Prediction(2.0), 2.5) == 0.5
    sharp = Prediction.gaussian(2.0, 1e-9)
    assert crps(sharp, 2.5) == pytest.approx(0.5, rel=0.02)


def test_crps_prefers_the_true_spread():
    draws = np.random.default_rng(0).normal(0.0, 1.0, 4000)
    mean = {sd: np.mean([crps(Prediction.gaussian(0.0, sd), y) for y in draws]) for sd in (0.5, 1.0, 2.0)}
    assert mean[1.0] < mean[0.5]
    assert mean[1.0] < mean[2.0]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_exact_intervals_cover_at_their_level_and_the_pit_is_even(level):
    generator = np.random.default_rng(1)
    centres = generator.normal(0.0, 3.0, 4000)
    truths = centres + generator.normal(0.0, 0.7, 4000)
    predictions = [Prediction.gaussian(c, 0.7) for c in centres]
    inside = [low <= y <= high for (low, high), y in zip((p.interval(level) for p in predictions), truths, strict=True)]
    assert np.mean(inside) == pytest.approx(level, abs=0.02)
    pits = np.array([pit(p, y) for p, y in zip(predictions, truths, strict=True)])
    assert np.histogram(pits, bins=5, range=(0, 1))[0] == pytest.approx(np.full(5, 800), abs=110)


def test_interval_ends_are_the_quantiles():
    low, high = Prediction.gaussian(1.0, 2.0).interval(0.9)
    assert (low, high) == pytest.approx(norm.interval(0.9, 1.0, 2.0))


def test_interval_score_charges_twenty_times_the_miss_at_ninety_percent():
    assert interval_score(1.0, 3.0, 2.0, 0.9) == pytest.approx(2.0)
    assert interval_score(1.0, 3.0, 0.5, 0.9) == pytest.approx(2.0 + 20 * 0.5)
    assert interval_score(1.0, 3.0, 3.25, 0.9) == pytest.approx(2.0 + 20 * 0.25)


def test_normalised_error_is_the_protocols():
    # The last value misses by 0.4; the floor is 2 % of the 8 nats come since the start.
    assert error_unit(truth=3.0, last_value=3.4, initial=11.0) == pytest.approx(0.4)
    assert error_unit(truth=3.0, last_value=3.01, initial=11.0) == pytest.approx(0.16)
    assert cut_ratio(0.2, 0.4) == pytest.approx(0.5)
    assert cut_ratio(100.0, 0.4) == 5.0
    assert (cut_ratio(0.0, 0.0), cut_ratio(0.1, 0.0)) == (0.0, 5.0)


def test_a_mixture_has_the_quantiles_of_its_cdf():
    mixture = Prediction.mixture([0.0, 4.0], [1.0, 0.1], [0.7, 0.3])
    cdf = 0.7 * ndtr(mixture.quantiles) + 0.3 * ndtr((mixture.quantiles - 4.0) / 0.1)
    np.testing.assert_allclose(cdf, PROBABILITIES, atol=2e-3)


def test_a_tabulated_cdf_is_inverted():
    quantiles = invert_cdf(lambda x: ndtr((x - 2.0) / 0.01), 0.0, 4.0)
    np.testing.assert_allclose(quantiles, norm.ppf(PROBABILITIES, 2.0, 0.01), atol=2e-4)


def test_without_a_distribution_there_is_no_coverage():
    assert Prediction.gaussian(1.0, math.inf).quantiles is None
    assert all(math.isnan(end) for end in Prediction(1.0).interval(0.9))
    assert math.isnan(pit(Prediction(1.0), 1.0))


def one_score(group, mid, *, known=True, method="m", fraction=0.5):
    curve = RunCurve("c", group, np.arange(1.0, 101.0), np.linspace(10.0, 1.0, 100), horizon_known=known)
    (task,) = make_tasks([curve], [fraction])
    return score(task, method, Prediction.gaussian(mid, 0.1), 0.001)


def test_a_score_holds_the_parts():
    s = one_score("g", 1.2)
    truth = np.linspace(10.0, 1.0, 100)[98:].mean()
    assert s.truth == pytest.approx(truth)
    assert s.bias == pytest.approx(1.2 - truth)
    last_value = np.linspace(10.0, 1.0, 100)[48:50].mean()
    assert s.normalised_error == pytest.approx(abs(1.2 - truth) / (last_value - truth))
    assert s.covers(0.9) == 1.0
    assert s.width(0.9) == pytest.approx(2 * 1.6449 * 0.1, rel=1e-3)
    assert s.covers(0.5) == 0.0


def test_each_group_counts_once_and_unknown_horizons_not_at_all():
    scores = [one_score("many", 1.0), one_score("many", 1.0), one_score("many", 1.0), one_score("single", 2.0)]
    scores.append(one_score("elsewhere", 99.0, known=False))
    assert by_group(scores, lambda s: s.mid) == {"many": 1.0, "single": 2.0}
    assert mean_over_groups(scores, lambda s: s.mid) == 1.5
    assert median_over_groups(scores, lambda s: s.mid) == 1.5


def test_groups_worse_than_the_last_value_are_counted():
    reference = [one_score("a", 2.0), one_score("b", 2.0), one_score("c", 2.0)]
    mine = [one_score("a", 2.0), one_score("b", 1.5), one_score("c", 2.5)]
    assert worse_than_last_value(mine, reference) == (1, 3)
