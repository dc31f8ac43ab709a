"""The banded misfit model equals the dense Gaussian process that it stands for."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling.fit.data import FitData
from lightning_scaling.fit.misfit import _LEAST_NOISE, MisfitModel
from lightning_scaling.fit.prior import Prior

PRIOR = Prior(misfit_length=0.8)
SIZE = 0.3


def dense(S: np.ndarray, S_other: np.ndarray, now: float) -> np.ndarray:
    def sd(x: np.ndarray) -> np.ndarray:
        return SIZE * np.minimum((now / np.minimum(x, now)) ** 1.3, 1e3)

    return np.outer(sd(S), sd(S_other)) * np.exp(-np.abs(np.log(S)[:, None] - np.log(S_other)[None, :]) / 0.8)


def test_banded_algebra_equals_dense(rng: np.random.Generator) -> None:
    M, now = 40, 1000.0
    S = np.sort(rng.uniform(5.0, now, M))
    data = FitData(S, rng.normal(size=M), rng.uniform(1e-4, 1e-1, M), now, 1.0, 0.0, 0.1)
    columns = rng.normal(size=(M, 3))
    model, turned = MisfitModel.build(data, SIZE, 1.3, PRIOR, columns)

    K = dense(S, S, now)
    C = K + np.diag(data.variance + _LEAST_NOISE * np.diag(K))
    assert turned.T @ model.solved == pytest.approx(columns.T @ np.linalg.solve(C, columns), rel=1e-7)

    ahead = np.array([50.0, 999.0, 1500.0, 9000.0])
    cross = dense(S, ahead, now)
    combine = rng.normal(size=(4, 2))
    pull, variance = model.predict(ahead, combine)
    assert pull == pytest.approx(columns.T @ np.linalg.solve(C, cross), rel=1e-7)
    posterior = dense(ahead, ahead, now) - cross.T @ np.linalg.solve(C, cross)
    assert variance == pytest.approx(np.diag(combine.T @ posterior @ combine), rel=1e-6)


def test_noise_free_windows_do_not_break_the_factor() -> None:
    S = np.geomspace(1.0, 1e6, 300)
    data = FitData(S, np.zeros(300), np.zeros(300), 1e6, 1.0, 0.0, 0.0)
    model, _ = MisfitModel.build(data, SIZE, 1.3, PRIOR, np.ones((300, 1)))
    assert np.isfinite(model.solved).all()
