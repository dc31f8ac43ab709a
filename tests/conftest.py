"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable

# Matrices here are small: on cores that others use too, most time would go into threads that wait for each other.
# Set before anything imports a numerical library; OpenBLAS, MKL and torch all read it.
os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

# The same examples on every machine and in every run; slow machines do not fail a property.
settings.register_profile("lightning_scaling", deadline=None, derandomize=True, database=None, max_examples=100)
settings.load_profile("lightning_scaling")

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@pytest.fixture
def rng() -> np.random.Generator:
    """A random generator in the same state at the start of every test."""
    return np.random.default_rng(20200123)


@pytest.fixture
def make_curve(rng: np.random.Generator) -> Callable[..., Curve]:
    """Return a function that simulates the raw losses of a run: L = E + A S^-alpha + Gaussian noise."""

    def simulate(
        n: int = 2000, *, E: float = 2.0, A: float = 8.0, alpha: float = 0.5, noise: float = 0.02, first: int = 1
    ) -> Curve:
        """Return (S, L): the optimizer steps first, …, n as floats and the loss at each of them."""
        S = np.arange(first, n + 1, dtype=np.float64)
        return S, E + A * S**-alpha + noise * rng.standard_normal(S.size)

    return simulate
