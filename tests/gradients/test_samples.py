"""Samples on their way: nothing is waited for before a flush, nothing is lost at one."""

from __future__ import annotations

import pytest
import torch

from lightning_scaling.batch_size.noise_scale import NoiseScale
from lightning_scaling.gradients.norms import NormSample
from lightning_scaling.gradients.samples import NoiseSamples
from tests.faraway import device, far
from tests.untouchable import Untouchable, untouchable


def sample(small_sq: float = 52.5, big_sq: float = 4.0625) -> NormSample:
    return NormSample(torch.tensor(small_sq), torch.tensor(big_sq), 8, 256)


def test_one_flush_behind_unless_waited_for() -> None:
    samples = NoiseSamples(NoiseScale(), slots=4)
    samples.put(sample())
    samples.put(None)
    samples.put(sample())
    samples.flush(wait=False)
    assert samples.noise.n_samples == 0
    samples.put(sample())
    samples.flush(wait=False)
    assert samples.noise.n_samples == 2
    samples.flush()
    assert samples.noise.n_samples == 3
    samples.flush()
    assert samples.noise.n_samples == 3
    assert samples.noise.trace_Sigma == pytest.approx(400.0)


def test_putting_waits_for_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = NoiseSamples(NoiseScale(), slots=4)
    for _ in range(4):
        samples.put(NormSample(untouchable(52.5), untouchable(4.0625), 8, 256))
    monkeypatch.setattr(Untouchable, "guarded", False)
    samples.flush()
    assert samples.noise.n_samples == 4


def test_no_more_than_there_is_room_for_and_none_after_discarding() -> None:
    samples = NoiseSamples(NoiseScale(), slots=4)
    for _ in range(9):
        samples.put(sample())
    samples.flush()
    assert samples.noise.n_samples == 4
    samples.put(sample())
    samples.flush(wait=False)
    samples.put(sample())
    samples.discard()
    samples.flush()
    assert samples.noise.n_samples == 4


def test_norms_that_overflowed_are_skipped() -> None:
    samples = NoiseSamples(NoiseScale())
    samples.put(sample(float("inf")))
    samples.put(sample(float("nan"), float("nan")))
    samples.put(sample())
    samples.flush()
    assert (samples.noise.n_samples, samples.noise.n_skipped) == (1, 2)


def test_from_a_device_they_come_in_one_copy_that_is_not_waited_for() -> None:
    samples = NoiseSamples(NoiseScale(), slots=4)
    with device() as there:
        for _ in range(2):
            for _ in range(3):
                samples.put(NormSample(far(52.5), far(4.0625), 8, 256))
            samples.put(None)
            samples.flush(wait=False)
            there.catch_up()
        assert samples.noise.n_samples == 3
        samples.flush()
    assert (there.copies[:2], there.waits) == ([20, 20], 0)
    assert samples.noise.n_samples == 6
    assert samples.noise.trace_Sigma == pytest.approx(400.0)
