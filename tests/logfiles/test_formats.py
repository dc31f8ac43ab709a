"""Every format comes back as the run that was written into it; where the tool is at hand, it writes the file itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_scaling.logfiles import RunLog, Wanted, read_log, read_logs
from lightning_scaling.logfiles.tensorboard import event_files
from tests.logfiles.runs import STEPS, losses, rates


def assert_is_the_run(log: RunLog, S: np.ndarray = STEPS) -> None:
    np.testing.assert_allclose(log.curve.S, S)
    np.testing.assert_allclose(log.curve.L, losses(), rtol=1e-6)
    assert log.curve.lr is not None
    np.testing.assert_allclose(log.curve.lr, rates(), atol=1e-8)


def test_lightning_csv_logger(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path, name="run", version="v", flush_logs_every_n_steps=10)
    logger.log_hyperparams({"lr": 1e-3})
    for s, y, r in zip(STEPS, losses(), rates(), strict=True):
        step = int(s) - 1  # Lightning counts from 0
        logger.log_metrics({"lr-AdamW": float(r)}, step=step)
        logger.log_metrics({"train_loss_step": float(y), "epoch": step // 500}, step=step)
        if (step + 1) % 500 == 0:
            logger.log_metrics({"train_loss_epoch": float(y), "val_loss": float(y) + 0.1, "epoch": step // 500}, step)
    logger.save()
    folder = tmp_path / "run" / "v"
    for path in (folder, folder / "metrics.csv"):
        log = read_log(path)
        assert_is_the_run(log)
        assert log.format == "Lightning CSVLogger"
        assert log.columns["loss"] == "train_loss_step"
        assert log.columns["lr"] == "lr-AdamW"
        assert log.curve.epoch_ends == (500, 1000, 1500)
        assert "counts steps from 0" in log.notes[-1]
    held_out = read_log(folder, Wanted(loss="val_loss"))
    assert held_out.curve.S.tolist() == [500, 1000, 1500, 2000]


def test_tensorboard_summary_writer(tmp_path: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    for part in (slice(0, 25), slice(20, 40)):  # resumed at step 1 000 from a checkpoint
        with SummaryWriter(str(tmp_path / "run")) as writer:
            for s, y, r in zip(STEPS[part], losses()[part], rates()[part], strict=True):
                # What the resumed run logged again replaces what was logged first.
                stale = 0.5 if part.start == 0 and s > 1000 else 0.0
                writer.add_scalar("train/loss", float(y) + stale, int(s))
                writer.add_scalar("lr", float(r), int(s))
            writer.add_text("note", "hello")
            writer.add_histogram("weights", np.arange(5.0))
    log = read_log(tmp_path / "run")
    assert_is_the_run(log)
    assert (log.format, log.n_repeated) == ("TensorBoard events", 5)
    assert log.columns == {"step": "step", "loss": "train/loss", "lr": "lr"}


def test_tensorboard_files_are_read_in_the_order_in_which_they_were_begun(tmp_path: Path) -> None:
    names = [f"events.out.tfevents.{rest}" for rest in ("99.host.7.3", "1700000000.host.7.9", "1700000000.host.7.10")]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in event_files(tmp_path)] == names


def test_tensorboard_tensors_and_losses_that_are_not_finite(tmp_path: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    writer = EventFileWriter(str(tmp_path))
    for step, loss in enumerate([5.0, 4.0, float("nan"), 3.0, 2.5], start=1):  # as TensorFlow 2 writes scalars
        value = Summary.Value(tag="epoch_loss", tensor=make_tensor_proto(loss), metadata=metadata)
        writer.add_event(Event(step=step, summary=Summary(value=[value])))
    writer.close()
    log = read_log(next(tmp_path.glob("*tfevents*")))
    assert log.curve.L.tolist() == [5.0, 4.0, 3.0, 2.5]
    assert log.n_nonfinite == 1


def test_without_tensorboard_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.out.tfevents.1.host").write_bytes(b"\x00" * 30)
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_file_loader", None)
    with pytest.raises(ModuleNotFoundError, match=r"Expected TensorBoard to read its event files.*pip install"):
        read_log(tmp_path)


def test_hugging_face_trainer_state(tmp_path: Path) -> None:
    from transformers.trainer_callback import TrainerState

    state = TrainerState(max_steps=4000, global_step=2000, num_train_epochs=2)
    for s, y, r in zip(STEPS, losses(), rates(), strict=True):
        entry = {"loss": float(y), "grad_norm": 1.0, "learning_rate": float(r), "epoch": float(s) / 1000}
        state.log_history.append({**entry, "step": int(s)})
    state.log_history.append({"eval_loss": 2.5, "epoch": 2.0, "step": 2000})
    state.log_history.append({"train_loss": 2.7, "train_runtime": 12.0, "epoch": 2.0, "step": 2000})
    (tmp_path / "checkpoint-2000").mkdir()
    (tmp_path / "checkpoint-500").mkdir()
    (tmp_path / "checkpoint-500" / "trainer_state.json").write_text("{}")
    state.save_to_json(str(tmp_path / "checkpoint-2000" / "trainer_state.json"))
    log = read_log(tmp_path)
    # A loss is the mean over the 50 steps before it: it belongs in their middle.
    np.testing.assert_allclose(log.curve.S, STEPS - 24.5)
    assert log.curve.count.tolist() == [50.0] * 40
    np.testing.assert_allclose(log.curve.L, losses())
    assert (log.planned, log.curve.step, log.columns["lr"]) == (4000, 2000, "learning_rate")
    assert log.notes == ()


def wandb_export(path: Path, runs: list[str], *, apart: float = 0.0, x: str = "Step") -> None:
    keys = [f'"{run} - {key}"' for run in runs for key in ("_step", "train/loss", "train/loss__MIN", "train/loss__MAX")]
    lines = [",".join([f'"{x}"', *keys])]
    for s, y in zip(STEPS, losses(), strict=True):
        cells = [c for _ in runs for c in (f'"{s:.0f}"', f'"{y}"', f'"{y - apart}"', f'"{y + apart}"')]
        lines.append(",".join([f'"{s:.0f}"', *cells]))
    path.write_text("\n".join(lines) + "\n")


def test_wandb_export(tmp_path: Path) -> None:
    path = tmp_path / "wandb_export_2026-01-01.csv"
    wandb_export(path, ["brisk-pond-1"], x="train/global_step")
    log = read_log(path)
    assert (log.format, log.name) == ("W&B export", "brisk-pond-1")
    assert log.columns == {"step": "train/global_step", "loss": "train/loss"}
    assert log.curve.L.tolist() == losses().tolist()
    assert log.warnings == ()


def test_wandb_export_of_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    wandb_export(path, ["a - b-1", "c-2", "Group: d"])
    assert [log.name for log in read_logs(path)] == ["a - b-1", "c-2", "Group: d"]
    assert read_log(path, Wanted(run="c-2")).name == "c-2"
    with pytest.raises(ValueError, match=r"Expected one run in .*, got 3: 'a - b-1', 'c-2', 'Group: d', so name one"):
        read_log(path)
    with pytest.raises(ValueError, match="Expected one run named 'zebra'"):
        read_log(path, Wanted(run="zebra"))


def test_a_wandb_export_that_averages_is_warned_of(tmp_path: Path) -> None:
    wandb_export(tmp_path / "export.csv", ["run"], apart=0.1)
    assert (
        "one value for several steps (its MIN and MAX differ in 100 % of the rows)"
        in read_log(tmp_path / "export.csv").warnings[0]
    )


def test_wandb_history(tmp_path: Path) -> None:
    path = tmp_path / "wandb-history.jsonl"
    rows = [
        {
            "_step": i,
            "_runtime": 2.0 * i,
            "trainer/global_step": int(s),
            "train": {"loss": float(y)},
            "lr-Adam": float(r),
        }
        for i, (s, y, r) in enumerate(zip(STEPS, losses(), rates(), strict=True))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"_step": 41, "tra')
    log = read_log(tmp_path)
    assert_is_the_run(log)
    assert log.format == "W&B history"
    assert log.columns == {"step": "trainer/global_step", "loss": "train/loss", "lr": "lr-Adam"}


def test_a_wandb_summary_is_no_history(tmp_path: Path) -> None:
    path = tmp_path / "wandb-summary.json"
    path.write_text(json.dumps({"_step": 100, "_runtime": 5.0, "train/loss": 2.5}))
    with pytest.raises(ValueError, match=r"Expected a history of losses .*The summary of a run holds its last values"):
        read_log(path)


def mlflow_run(folder: Path, name: str | None = None) -> None:
    """Write a run as MLflow's file store has it: timestamp in milliseconds, value, step."""
    for key, values in (("train/loss", losses()), ("lr", rates())):
        file = folder / "metrics" / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{1700000000000 + int(s)} {v} {int(s)}\n" for s, v in zip(STEPS, values, strict=True)))
    for key, value in (("params/max_steps", "4000"), ("tags/mlflow.runName", name or folder.name)):
        file = folder / key
        file.parent.mkdir(exist_ok=True)
        file.write_text(value)


def test_mlflow_store(tmp_path: Path) -> None:
    run = tmp_path / "mlruns" / "0" / "d1f2"
    mlflow_run(run, "sunny-bee")
    log = read_log(run)
    assert_is_the_run(log)
    assert (log.format, log.name, log.planned) == ("MLflow store", "sunny-bee", 4000)
    one = read_log(run / "metrics" / "train" / "loss")
    assert one.curve.L.tolist() == losses().tolist()
    mlflow_run(tmp_path / "mlruns" / "0" / "e3f4", "rainy-ant")
    assert [log.name for log in read_logs(tmp_path / "mlruns")] == ["sunny-bee", "rainy-ant"]


def test_mlflow_export(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    rows = [
        f"{run},{key},{value},{int(s)},{1700000000000 + int(s)}"
        for run in ("aa", "bb")
        for key, values in (("train_loss", losses()), ("lr", rates()))
        for s, value in zip(STEPS, values, strict=True)
    ]
    path.write_text("\n".join(["run_id,key,value,step,timestamp", *rows]) + "\n")
    logs = read_logs(path)
    assert [log.name for log in logs] == ["aa", "bb"]
    for log in logs:
        assert_is_the_run(log)


def test_csv_from_the_page_of_tensorboard(tmp_path: Path) -> None:
    path = tmp_path / "run-train_loss.csv"
    rows = [f"{1.7e9 + s},{int(s)},{y}" for s, y in zip(STEPS, losses(), strict=True)]
    path.write_text("\n".join(["Wall time,Step,Value", *rows]) + "\n")
    log = read_log(path)
    assert log.curve.L.tolist() == losses().tolist()
    assert log.curve.S.tolist() == STEPS.tolist()


@pytest.mark.parametrize("shape", ["lines", "array", "columns", "history"])
def test_json(tmp_path: Path, shape: str) -> None:
    entries = [
        {"step": int(s), "train_loss": float(y), "lr": float(r), "note": "x"}
        for s, y, r in zip(STEPS, losses(), rates(), strict=True)
    ]
    columns = {"step": STEPS.tolist(), "train_loss": losses().tolist(), "lr": rates().tolist(), "config": [1]}
    text = {
        "lines": "\n".join(json.dumps(entry) for entry in entries),
        "array": json.dumps(entries),
        "columns": json.dumps(columns),
        "history": json.dumps({"history": entries, "config": {"lr": 1.0}}),
    }[shape]
    path = tmp_path / "run.json"
    path.write_text(text)
    assert_is_the_run(read_log(path))


def test_json_values_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    values = ["5.0", "4.0", "NaN", '"Infinity"', "null", "3.0"]
    path.write_text("".join(f'{{"step": {i + 1}, "loss": {v}}}\n' for i, v in enumerate(values)))
    log = read_log(path)
    assert log.curve.L.tolist() == [5.0, 4.0, 3.0]
    assert log.n_nonfinite == 2
