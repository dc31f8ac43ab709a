"""A model in parts on two ranks (gloo, two processes): its size, its losses, its schedule, and a resumed run."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import strategies

from tests.host.test_size import T
from tests.integration.ranks import Reports, run_on_two_ranks
from tests.integration.two_ranks_sharded import ACCUMULATED, BATCH, CUT, STEPS, factor

TIMEOUT_S = 240
WAYS = {"torch": ("FSDP2", "tensor parallel"), "deepspeed": ("ZeRO-3",)}
#: Ranks that see different data.
DATA = {"FSDP2": 2, "tensor parallel": 1, "ZeRO-3": 2}

no_torch = pytest.mark.skipif(not hasattr(strategies, "ModelParallelStrategy"), reason="this Lightning has no FSDP2")
no_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="needs deepspeed")
each_way = pytest.mark.parametrize(
    "how",
    [
        *(pytest.param(how, marks=no_torch) for how in WAYS["torch"]),
        *(pytest.param(how, marks=no_deepspeed) for how in WAYS["deepspeed"]),
    ],
)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function of the way: what its scenarios printed, rank 0 first; each kind is run once."""
    found: dict[str, Reports] = {}

    def of(how: str) -> Reports:
        kind = next(kind for kind, ways in WAYS.items() if how in ways)
        if kind not in found:
            folder: Path = tmp_path_factory.mktemp(kind)
            module = "tests.integration.two_ranks_sharded"
            found[kind] = run_on_two_ranks(module, str(folder), *WAYS[kind], timeout_s=TIMEOUT_S)
        return found[kind]

    return of


@each_way
def test_each_rank_holds_a_part_and_N_is_that_of_the_whole(reports: Any, how: str) -> None:
    for report in reports(how)[f"{how}, whole"]:
        assert report["size"] == report["whole"]
        assert report["N"] == report["whole"]["non_embedding"]
        assert report["held"] < sum(report["whole"].values())


@each_way
def test_the_loss_of_a_step_is_the_mean_over_ranks_and_batches(reports: Any, how: str) -> None:
    found = reports(how)
    for cut, whole in zip(found[f"{how}, cut"], found[f"{how}, whole"], strict=True):
        seen = [*cut["seen"], *whole["seen"]]
        assert len(seen) == STEPS * ACCUMULATED
        means = [sum(seen[i : i + ACCUMULATED]) / ACCUMULATED for i in range(0, len(seen), ACCUMULATED)]
        assert whole["S"] == list(range(1, STEPS + 1))  # the run that was resumed knows what was before
        assert whole["L"] == pytest.approx(means, rel=1e-6)
        assert cut["L"] == whole["L"][:CUT]


@each_way
def test_schedule_and_batch_size_are_found(reports: Any, how: str) -> None:
    for report in reports(how)[f"{how}, whole"]:
        assert "linear decay" in report["plan"]
        assert report["lr"] == pytest.approx([1e-3 * factor(step) for step in range(STEPS)])
        assert report["tokens"] == [float(BATCH * T * ACCUMULATED * DATA[how])] * STEPS


@each_way
def test_only_rank_0_forecasts(reports: Any, how: str) -> None:
    zero, one = reports(how)[f"{how}, cut"]
    assert zero["forecasts"][-1] == zero["ended"] == one["ended"] == CUT
    assert one["forecasts"] == []


@no_deepspeed
def test_an_engine_of_deepspeed_in_a_plain_loop(reports: Any) -> None:
    for report in reports("ZeRO-3")["ZeRO-3, loop"]:
        assert report["numel"] == 0  # between steps no rank has a parameter as a whole
        assert report["size"] == report["whole"]
        assert report["held"] == sum(report["whole"].values()) // 2
        assert report["L"] == pytest.approx(report["seen"], rel=1e-6)
