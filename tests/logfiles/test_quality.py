"""Histories that were sampled or smoothed are told from those that were not."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling.logfiles.quality import is_sampled, is_smoothed, shortcomings


def averaged(L: np.ndarray, weight: float) -> np.ndarray:
    found = L.copy()
    for i in range(1, L.size):
        found[i] = weight * found[i - 1] + (1.0 - weight) * L[i]
    return found


S = np.arange(1.0, 4001.0)


@pytest.mark.parametrize("seed", range(5))
def test_smoothed_losses(seed: int) -> None:
    raw = 2.0 + 6.0 * S**-0.5 + 0.05 * np.random.default_rng(seed).standard_normal(S.size)
    assert not is_smoothed(raw)
    for weight in (0.9, 0.95, 0.99):
        assert is_smoothed(averaged(raw, weight)), weight
    assert is_smoothed(np.convolve(raw, np.ones(20) / 20, mode="valid"))


def test_losses_with_more_trend_than_noise_are_not_called_smoothed() -> None:
    assert not is_smoothed(2.0 + 6.0 * S**-0.5)
    assert not is_smoothed(np.full(4000, 2.0))


@pytest.mark.parametrize("n", [500, 1000])
def test_sampled_steps(n: int) -> None:
    logged = np.arange(10.0, 50_001.0, 10.0)
    assert is_sampled(np.sort(np.random.default_rng(n).choice(logged, n, replace=False)))


def test_steps_as_they_were_logged() -> None:
    assert not is_sampled(S)
    assert not is_sampled(np.unique(np.round(np.geomspace(1, 1e6, 400))))
    assert not is_sampled(np.sort(np.concatenate([np.arange(50.0, 5001.0, 50.0), np.arange(333.0, 5001.0, 333.0)])))
    assert not is_sampled(np.arange(1.0, 1001.0) ** 2)


def test_warnings_say_why() -> None:
    raw = 2.0 + 0.05 * np.random.default_rng(0).standard_normal(S.size)
    assert shortcomings(S, raw, "train_loss") == []
    assert "its name is 'train/loss_ema'" in shortcomings(S, raw, "train/loss_ema")[0]
    assert "neighbouring losses differ less than noise does" in shortcomings(S, averaged(raw, 0.9), "loss")[0]
    assert shortcomings(S, averaged(raw, 0.9), "val_loss") == []
    few = np.sort(np.random.default_rng(0).choice(4000, 500, replace=False))
    assert "seems to be sampled: 500 losses" in shortcomings(S[few], raw[few], "loss")[0]
