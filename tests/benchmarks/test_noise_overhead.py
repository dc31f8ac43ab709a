"""The overhead benchmark measures what it says: every variant in every round, its monitor at work in its own blocks."""

from __future__ import annotations

import pytest

from benchmarks.noise_overhead import AGAIN, WITHOUT, cost_table, main, measure, monitors
from lightning_scaling.noise_monitor import GradientNoiseMonitor
from tests.trainers import QUIET

pytestmark = QUIET


def test_each_variant_works_in_its_blocks_and_in_no_other() -> None:
    variants = monitors([1])
    costs = measure(variants, rounds=2, width=8, batch=2, block=16)
    assert {name: values.shape for name, values in costs.items()} == dict.fromkeys(variants, (2, 2))
    assert costs[WITHOUT].min() > 0.0
    for monitor in variants.values():
        if isinstance(monitor, GradientNoiseMonitor):
            samples = monitor._samples
            assert samples is not None
            samples.flush()
            assert monitor.noise_scale.n_samples == 3 * 16
    table = cost_table(costs, 8).markdown()
    assert [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:] == [
        WITHOUT, AGAIN, "batches, every 1", "examples, every 1",
    ]  # fmt: skip


def test_one_round_has_no_error() -> None:
    with pytest.raises(SystemExit):
        main(["--rounds", "1"])
