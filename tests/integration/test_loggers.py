"""The loggers that most runs use, as they are: what each has of a run, and that nobody else's part is touched."""

from __future__ import annotations

import importlib
import json
import math
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from lightning_scaling import ScalingLawMonitor, ScalingWarning, TargetUnreachable, __version__
from lightning_scaling.host import figures
from lightning_scaling.live import METRICS
from tests.trainers import (
    PACKAGES,
    QUIET,
    fit,
    law,
    loader,
    read_csv,
    scripted_module,
    trainer,
    validated_module,
    watch,
)

pytest.importorskip("wandb")
pytest.importorskip("mlflow")
pytestmark = [
    *QUIET,
    # What the loggers' own libraries warn of, none of it about us: Lightning hands W&B an option that it has dropped,
    # MLflow advises against stores in files, and both leave files to the garbage collector.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*Previous log files in this directory will be deleted.*"),
]

STEPS, REFITS = 200, 12
OURS = [f"scaling/{name}" for name in METRICS]
CLOSING = {
    f"scaling/{name}"
    for name in (
        *("ended_at", "steps_saved", "intervals", "intervals_held"),
        *("at_half/final_loss", "at_half/final_loss_low", "at_half/final_loss_high", "at_half/off"),
    )
}
FACTS = {
    "scaling/monitor": "training loss of every step",
    "scaling/N": 3,
    "scaling/horizon": STEPS,
    "scaling/horizon_from": "max_steps",
    "scaling/lr_schedule": "constant learning rate",
    "scaling/samples_per_step": 1,
    "scaling/level": 0.9,
    "scaling/law": "L(N,S), Kaplan et al. 2020 Eq. 1.6",
    "scaling/version": __version__,
}


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing leaves the machine, and nothing is written outside the folder of the test."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(tmp_path),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
        "WANDB_DATA_DIR": str(tmp_path / "data"),
        "WANDB_CONSOLE": "off",
        "WANDB_ERROR_REPORTING": "false",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()


def made(kind: str, folder: Path, package: str = "lightning.pytorch", **settings: Any) -> Any:
    """Return a logger that writes below a folder."""
    where: dict[str, Any] = {
        "CSVLogger": {"save_dir": folder, "name": "csv", "version": 0},
        "TensorBoardLogger": {"save_dir": folder, "name": "tb", "version": 0},
        "WandbLogger": {"save_dir": folder, "offline": True, "project": "test"},
        "MLFlowLogger": {"tracking_uri": f"file:{folder}/mlruns"},
    }[kind]
    return getattr(importlib.import_module(f"{package}.loggers"), kind)(**{**where, **settings})


Named = dict[str, Any]


def wandb_rows(run: Any) -> tuple[list[Named], Named, Named]:
    """Finish a W&B run; return (rows of its history, config, summary) as its file has them."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    file = next(Path(run.dir).parent.glob("*.wandb"))
    summary = dict(run.summary)
    wandb.finish()
    for _ in range(200):  # W&B's own process writes the end
        records = [Record.FromString(raw) for raw in leveldb_records(file.read_bytes())]
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            break
        time.sleep(0.05)
    rows, config = [], {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items})
        for item in record.config.update:
            config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return rows, config, summary


def leveldb_records(raw: bytes) -> Iterator[bytes]:
    """Yield the records of a log in LevelDB's format, behind W&B's head of 7 bytes; one may span several blocks.

    A file may be read while it is written: the first part that is not all there ends it.
    """
    at, whole, block = 7, b"", 32768
    while at + 7 <= len(raw):
        if (left := block - at % block) < 7:
            at += left
            continue
        checksum, size = (int.from_bytes(raw[at + a : at + b], "little") for a, b in ((0, 4), (4, 6)))
        kind, part = raw[at + 6], raw[at + 7 : at + 7 + size]
        if len(part) < size or zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
            return
        whole, at = whole + part, at + 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def same(one: float, other: Any) -> bool:
    return math.isclose(one, float(other), rel_tol=1e-6) or (math.isnan(one) and math.isnan(float(other)))


@pytest.mark.parametrize("package", PACKAGES)
def test_all_loggers_at_once_get_the_same(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    csv, tb, wandb, mlflow = loggers = [
        made(kind, tmp_path, package) for kind in ("CSVLogger", "TensorBoardLogger", "WandbLogger", "MLFlowLogger")
    ]

    class Mine(type(validated_module(package=package))):  # type: ignore[misc]
        """A module with hyper-parameters of its own, which logs to W&B under its own count as well."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.save_hyperparameters()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            wandb.experiment.log({"mine": float(batch_idx)}, step=batch_idx)
            loss = super().training_step(batch, batch_idx)
            self.log("train_loss", loss)
            return loss

        def on_train_end(self) -> None:
            for logger in self.loggers:
                logger.log_hyperparams({"later": 2})

    monitor = ScalingLawMonitor(verbose=False, refits=REFITS, figures=True)
    # Never at the same step: two rows that Lightning itself writes at one step put W&B's count past the user's.
    validate_every, log_every = 20, 33
    runner = trainer(
        monitor, package=package, max_steps=STEPS, logger=loggers, log_every_n_steps=log_every,
        val_check_interval=validate_every,
    )  # fmt: skip
    runner.fit(Mine(width=1), loader(STEPS), loader(1))
    where = [
        record.step - 1 for record in monitor.history
    ]  # as Lightning counts: what it logs of the first step is at 0
    assert monitor._session is not None
    last = dict(zip(OURS, monitor._session.losses.main.live.values(), strict=True))
    assert not any("figure" in thread.name for thread in threading.enumerate())

    # CSV: a row at each step, the closing numbers in the last one, and all hyper-parameters in one file.
    rows = read_csv(Path(csv.log_dir) / "metrics.csv")
    assert [int(row["step"]) for row in rows if row["scaling/loss"]] == where
    assert all(same(value, [row for row in rows if row["scaling/loss"]][-1][key]) for key, value in last.items())
    closing = {key: float(rows[-1][key]) for key in CLOSING}
    assert all(not row["scaling/ended_at"] for row in rows[:-1])
    assert closing["scaling/ended_at"] == pytest.approx(law(STEPS), abs=0.05)
    assert [int(row["step"]) for row in rows] == sorted(int(row["step"]) for row in rows)
    assert {key: yaml.safe_load((Path(csv.log_dir) / "hparams.yaml").read_text())[key] for key in FACTS} == FACTS

    # TensorBoard: scalars, two texts and pictures; the user's hyper-parameters are the only ones of its plugin.
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(tb.log_dir, size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    events.Reload()
    assert {*OURS, *CLOSING} <= set(events.Tags()["scalars"])
    for key in OURS:
        assert [event.step for event in events.Scalars(key)] == where
        assert same(events.Scalars(key)[-1].value, last[key]) or key == "scaling/remaining_gain"
    assert all(same(events.Scalars(key)[0].value, value) or abs(value) < 1e-6 for key, value in closing.items())
    begun, over = (events.Tensors(f"scaling/{name}/text_summary")[0].tensor_proto.string_val[0].decode()
                   for name in ("run", "summary"))  # fmt: skip
    assert all(f"| {key} | {value} |" in begun for key, value in FACTS.items())
    assert over.startswith("    Forecasts of the loss at step 200, and what happened\n     done  at step")
    assert yaml.safe_load((Path(tb.log_dir) / "hparams.yaml").read_text()) == {"width": 1}
    pictures = events.Images("scaling/forecast")
    assert 1 <= len(pictures) <= 4
    assert pictures[-1].step == STEPS - 1
    assert pictures[-1].encoded_image_string.startswith(b"\x89PNG")

    # W&B: the user's rows are all there, at the count that he has given; ours are at the steps that they are of.
    rows, config, summary = wandb_rows(wandb.experiment)
    assert [(row["_step"], row["mine"]) for row in rows if "mine" in row] == [(s, float(s)) for s in range(STEPS)]
    ours = [row for row in rows if "scaling/loss" in row]
    assert [row["trainer/global_step"] for row in ours] == where
    assert all(same(value, ours[-1][key]) for key, value in last.items())
    assert len([row for row in rows if "val_loss" in row]) == STEPS // validate_every
    assert {key: config[key] for key in ("width", "later", *FACTS)} == {"width": 1, "later": 2, **FACTS}
    assert {key: summary[key] for key in CLOSING} == pytest.approx(closing)
    assert summary["scaling/summary"] == monitor.summary()
    shown = [row for row in rows if any(key.startswith("scaling/forecast") for key in row)]
    assert 1 <= len(shown) <= 4
    assert shown[-1]["trainer/global_step"] == STEPS - 1
    assert list(tmp_path.glob("wandb/*/files/media/images/scaling/forecast_*.png"))
    assert "less than current step" not in capfd.readouterr().err

    # MLflow: metrics, parameters that the user could add to afterwards, a tag, and pictures as artifacts.
    client, run_id = mlflow.experiment, mlflow.run_id
    kept = client.get_run(run_id).data
    assert kept.params == {"width": "1", "later": "2"} | {key: str(value) for key, value in FACTS.items()}
    for key in OURS:
        assert [point.step for point in client.get_metric_history(run_id, key)] == where
        assert same(last[key], kept.metrics[key])
    assert {key: kept.metrics[key] for key in CLOSING} == pytest.approx(closing)
    assert kept.tags["scaling/summary"] == monitor.summary()
    assert f"scaling/forecast_at_step_{STEPS}.png" in [a.path for a in client.list_artifacts(run_id, "scaling")]


def test_wandb_keeps_every_row_of_ours_where_its_count_is_ahead_and_nobody_else_logs(tmp_path: Path) -> None:
    logger = made("WandbLogger", tmp_path)
    logger.experiment.log({"mine": 1.0}, step=5000)  # of an earlier fit of the same run, say
    monitor = ScalingLawMonitor(verbose=False, refits=REFITS)
    fit(monitor, steps=60, logger=logger)
    rows, _, _ = wandb_rows(logger.experiment)
    ours = [row for row in rows if "scaling/loss" in row]
    assert [row["trainer/global_step"] for row in ours] == [record.step - 1 for record in monitor.history]
    final = [row["scaling/final_loss"] for row in ours]
    usable = [record.verdict.usable for record in monitor.history]
    assert [x != "NaN" for x in final] == usable


def test_of_a_file_of_wandb_that_is_being_written_the_records_before_are_read(tmp_path: Path) -> None:
    logger = made("WandbLogger", tmp_path)
    logger.experiment.log({"mine": "x" * 40_000}, step=1)  # longer than a block
    rows, _, _ = wandb_rows(logger.experiment)
    assert rows[0]["mine"] == "x" * 40_000
    raw = next(tmp_path.glob("wandb/*/*.wandb")).read_bytes()
    records = list(leveldb_records(raw))
    for cut in range(0, len(raw), 97):
        torn, not_yet_there = raw[:cut], raw[:cut] + bytes(len(raw) - cut)
        for found in (list(leveldb_records(torn)), list(leveldb_records(not_yet_there))):
            assert found == records[: len(found)]
        assert len(found) < len(records)


def test_a_run_of_mlflow_that_is_taken_up_again_keeps_its_parameters(tmp_path: Path) -> None:
    first = made("MLFlowLogger", tmp_path)
    fit(ScalingLawMonitor(verbose=False), steps=30, logger=first)
    again = made("MLFlowLogger", tmp_path, run_id=first.run_id)
    fit(ScalingLawMonitor(verbose=False, level=0.8), steps=40, logger=again)  # no warning: nothing has failed
    kept = again.experiment.get_run(again.run_id).data
    assert (kept.params["scaling/horizon"], kept.params["scaling/level"]) == ("30", "0.9")
    assert kept.metrics["scaling/ended_at"] == pytest.approx(law(40), abs=0.05)


def test_a_prefix_of_the_logger_and_a_name_of_the_monitor_are_kept(tmp_path: Path) -> None:
    logger = made("TensorBoardLogger", tmp_path, prefix="a")
    fit(ScalingLawMonitor(verbose=False, name="b", figures=True), steps=60, logger=logger)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(logger.log_dir)
    events.Reload()
    tags = events.Tags()
    assert set(tags["images"]) == {"a-b/forecast"}
    assert set(tags["tensors"]) == {"a-b/run/text_summary", "a-b/summary/text_summary"}
    assert {"a-b/final_loss", "a-b/ended_at"} <= set(tags["scalars"])


def test_a_run_that_is_stopped_or_cut_off_is_closed_as_well(tmp_path: Path) -> None:
    logger = made("CSVLogger", tmp_path)
    fit(ScalingLawMonitor(verbose=False, stop=TargetUnreachable(loss=1.0)), steps=400, logger=logger)
    closing = read_csv(tmp_path / "csv/version_0/metrics.csv")[-1]
    assert int(closing["step"]) + 1 + float(closing["scaling/steps_saved"]) == 400

    def breaks(step: int) -> float:
        if step == 100:
            raise RuntimeError("out of memory")
        return law(step)

    logger = made("CSVLogger", tmp_path, version=1)
    with pytest.raises(RuntimeError, match="out of memory"):
        fit(ScalingLawMonitor(verbose=False), steps=400, module=scripted_module(breaks), logger=logger)
    closing = read_csv(tmp_path / "csv/version_1/metrics.csv")[-1]
    assert int(closing["step"]) == 98
    assert float(closing["scaling/ended_at"]) == pytest.approx(law(99), abs=0.05)
    assert "scaling/steps_saved" not in closing


# Figures --------------------------------------------------------------------------------------------------------------


class Shown:
    """A TensorBoardLogger that only counts its pictures."""

    def __new__(cls, folder: Path) -> Any:
        logger = made("TensorBoardLogger", folder)
        logger.experiment.add_image = lambda *args, **kwargs: logger.seen.append(args[2])
        logger.seen = []
        return logger


@pytest.mark.parametrize("stand_in", [None, ModuleType("matplotlib")], ids=["absent", "a stand-in without a spec"])
def test_no_matplotlib_is_warned_of_once(
    stand_in: ModuleType | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", stand_in)
    logger, monitor = Shown(tmp_path), ScalingLawMonitor(verbose=False, figures=True)
    with pytest.warns(ScalingWarning, match=r"pip install 'lightning-scaling\[plot\]'") as caught:
        fit(monitor, steps=100, logger=logger)
    assert len([w for w in caught if w.category is ScalingWarning]) == 1
    assert logger.seen == []
    assert monitor.history[-1].step == 100


@pytest.mark.parametrize("there", [False, True])
def test_no_logger_for_figures_is_warned_of_once(there: bool, tmp_path: Path) -> None:
    logger = made("CSVLogger", tmp_path) if there else False
    with pytest.warns(ScalingWarning, match=f"got {'CSVLogger' if there else 'none at all'}"):
        fit(ScalingLawMonitor(verbose=False, figures=True), steps=30, logger=logger)


@pytest.mark.parametrize("error", [ValueError("no ink"), SystemExit(3)], ids=repr)
def test_a_drawing_that_fails_ends_the_figures_and_nothing_else(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(figures, "run_figure", fails)
    logger, monitor = Shown(tmp_path), ScalingLawMonitor(verbose=False, figures=True)
    with pytest.warns(ScalingWarning, match=f"{type(error).__name__}: ") as caught:
        fit(monitor, steps=100, logger=logger)
    assert len([w for w in caught if w.category is ScalingWarning]) == 1
    assert logger.seen == []
    assert monitor.history[-1].step == 100


def test_the_loop_waits_for_no_drawing_and_what_is_due_meanwhile_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, drawn = threading.Event(), []
    draw = figures.run_figure

    def slow(curve: Any, *args: Any, **kwargs: Any) -> Any:
        drawn.append(curve.step)
        assert may_go_on.wait(60)
        return draw(curve, *args, **kwargs)

    monkeypatch.setattr(figures, "run_figure", slow)
    # The first drawing, at the first quarter, is let go on at the last step: a loop that waited would not get there.
    lets_go = watch(on_train_batch_end=lambda self, t, *a: may_go_on.set() if t.global_step == 100 else None)
    logger = Shown(tmp_path)
    fit(ScalingLawMonitor(verbose=False, figures=True), lets_go, steps=100, logger=logger)
    assert drawn == [25, 100]
    assert logger.seen == [99]
