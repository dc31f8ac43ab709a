"""Families of runs of which every law is known: L = E(N) + A zeta^-alpha - b a(t), scattered from run to run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_scaling import LossCurve, LRSchedule

T = 10_000
KINDS = ("cosine", "wsd", "constant")


@dataclass(frozen=True, eq=False)
class Planted:
    """A finished run, as a store holds it, and the expected loss over the last 2 % of it."""

    curve: LossCurve
    horizon: int
    lr_schedule: LRSchedule | None
    end: float

    def at(self, share: float) -> LossCurve:
        """Return the run up to a share of it."""
        return self.curve.until(share * self.horizon)

    @property
    def unbegun(self) -> LossCurve:
        """Return what is known of the run before it begins."""
        return LossCurve([], [], N=self.curve.N, unit=self.curve.unit)


def rates(kind: str, horizon: int = T) -> np.ndarray:
    """Return the learning rates of a schedule by name, with a warm-up of 200 steps."""
    done = np.arange(1, horizon + 1) / horizon
    falling = {
        "cosine": 0.55 + 0.45 * np.cos(np.pi * done),
        "wsd": np.clip((1.0 - done) / 0.2, 0.1, 1.0),
        "constant": np.ones(horizon),
    }
    return np.minimum(np.arange(1, horizon + 1) / 200.0, 1.0) * falling[kind]


def run(
    rng: np.random.Generator,
    N: float | None = 1e7,
    kind: str = "cosine",
    *,
    horizon: int = T,
    alpha: float = 0.5,
    level: float = 2.0,
    scatter: float = 0.03,
    noise: float = 0.01,
    unit: float = 1.0,
    shift: float = 0.0,
    name: str = "",
) -> Planted:
    """Simulate a run: 300 logged points, evenly spaced in log steps."""
    size = (1e7 if N is None else N) / 1e7
    lr = rates(kind, horizon)
    z = np.cumsum(lr)
    typical = 0.5 * level, alpha, 0.05 * level
    A, slope, b = (x * np.exp(scatter * rng.standard_normal()) for x in typical)
    E = 0.85 * level * size**-0.076 * np.exp(0.1 * scatter * rng.standard_normal())
    fallen = np.where(np.arange(horizon) < lr.argmax(), 0.0, 1.0 - lr)
    # Like a language model's, the loss begins at five times its end: the law sets in below that.
    above = ((A * (z / 1000.0) ** -slope) ** -6.0 + (4.0 * level) ** -6.0) ** (-1.0 / 6.0)
    expected = E + above - b * fallen
    S = np.unique(np.round(np.geomspace(10, horizon, 300)))
    L = expected[S.astype(int) - 1] + noise * level * rng.standard_normal(S.size)
    curve = LossCurve(S, unit * (L + shift), N=N, unit=name)
    return Planted(curve, horizon, LRSchedule.from_array(lr), unit * float(expected[-horizon // 50 :].mean() + shift))


def family(rng: np.random.Generator, sizes: tuple[float, ...] = (1e6, 3e6, 1e7), **constants: float) -> list[Planted]:
    """Simulate a run of each size under a cosine and under a late decay."""
    return [run(rng, N, kind, **constants) for N in sizes for kind in ("cosine", "wsd")]  # type: ignore[arg-type]
