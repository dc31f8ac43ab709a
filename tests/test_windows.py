"""CurveBuilder: bounded windows that lose nothing they promise to keep."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling import CurveBuilder
from lightning_scaling.windows import WINDOWS_PER_E_FOLD

finite = st.floats(-1e6, 1e6, allow_nan=False)


def most_windows(steps: int) -> float:
    """Whole windows: single steps up to twice 48, then at most a quarter more than 48 in each factor e."""
    return 2 * WINDOWS_PER_E_FOLD + 1.25 * WINDOWS_PER_E_FOLD * max(0.0, math.log(steps / (2 * WINDOWS_PER_E_FOLD)))


@given(st.lists(finite, min_size=1, max_size=400))
def test_windows_hold_the_mean_and_spread_of_their_steps(losses: list[float]) -> None:
    builder = CurveBuilder()
    builder.extend(range(1, len(losses) + 1), losses)
    curve = builder.curve()
    assert curve.count.sum() == len(losses)
    ends = np.cumsum(curve.count).astype(int)
    for start, end, mean, spread, S in zip([0, *ends[:-1]], ends, curve.L, curve.spread, curve.S, strict=True):
        part = np.array(losses[start:end])
        assert mean == pytest.approx(part.mean(), rel=1e-9, abs=1e-6)
        assert S == pytest.approx(np.arange(start + 1, end + 1).mean())
        if part.size > 1:
            assert spread == pytest.approx(part.std(ddof=1), rel=1e-6, abs=1e-4)
        else:
            assert math.isnan(spread)


def test_memory_grows_with_the_logarithm_only() -> None:
    builder, sizes = CurveBuilder(), {}
    for step in range(1, 200_001):
        builder.append(step, 1.0)
        if step in (2_000, 20_000, 200_000):
            sizes[step] = len(builder)
    assert all(n <= most_windows(step) for step, n in sizes.items())
    assert sizes[200_000] - sizes[20_000] == pytest.approx(sizes[20_000] - sizes[2_000], abs=8)
    assert most_windows(10**7) < 800


def test_nonfinite_losses_are_counted_not_stored() -> None:
    builder = CurveBuilder()
    builder.extend([1, 2, 3, 4, 5], [3.0, math.nan, 2.0, math.inf, -math.inf])
    assert (builder.n_nonfinite, builder.n_nonfinite_total, builder.step) == (2, 3, 5)
    curve = builder.curve()
    assert (curve.L.tolist(), curve.step, curve.n_nonfinite) == ([3.0, 2.0], 5, 2)


@pytest.mark.parametrize("step", [3, 2, 0, -1])
def test_steps_must_go_on(step: int) -> None:
    builder = CurveBuilder()
    builder.extend([1, 2, 3], [3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match=r"Expected a step after 3, got step=.*resumed"):
        builder.append(step, 1.0)


@given(st.lists(finite, min_size=2, max_size=200), st.data())
def test_state_restores_to_the_bit_at_any_step(losses: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(losses)))
    whole, first = CurveBuilder(), CurveBuilder()
    steps = list(range(1, len(losses) + 1))
    whole.extend(steps, losses, [1e-3 * s for s in steps], [64.0] * len(steps))
    first.extend(steps[:cut], losses[:cut], [1e-3 * s for s in steps[:cut]], [64.0] * cut)
    second = CurveBuilder.from_state(json.loads(json.dumps(first.state_dict())))
    second.extend(steps[cut:], losses[cut:], [1e-3 * s for s in steps[cut:]], [64.0] * (len(steps) - cut))
    assert second.state_dict() == whole.state_dict()
    a, b = whole.curve(), second.curve()
    assert a.L.tobytes() == b.L.tobytes()
    assert a.S.tobytes() == b.S.tobytes()


def test_foreign_and_damaged_states_are_refused() -> None:
    builder = CurveBuilder()
    builder.append(1, 1.0)
    with pytest.raises(ValueError, match="version 1, got 7"):
        CurveBuilder.from_state(builder.state_dict() | {"version": 7})
    with pytest.raises(ValueError, match="columns of one length"):
        CurveBuilder.from_state(builder.state_dict() | {"mean_L": [1.0, 2.0]})


def test_rates_and_batches_are_averaged_and_left_out_where_a_window_has_none() -> None:
    builder = CurveBuilder()
    builder.extend([1, 2], [1.0, 1.0], [0.5, 0.25], [8.0, 8.0])
    curve = builder.curve(N=10.0)
    assert curve.lr is not None
    assert curve.B is not None
    assert (curve.lr.tolist(), curve.B.tolist(), curve.N) == ([0.5, 0.25], [8.0, 8.0], 10.0)
    builder.append(3, 1.0)
    assert builder.curve().lr is None


def test_epoch_ends_are_kept_in_order() -> None:
    builder = CurveBuilder()
    for step in (5, 5, 10):
        builder.mark_epoch_end(step)
    builder.append(12, 1.0)
    assert builder.curve().epoch_ends == (5, 10)
