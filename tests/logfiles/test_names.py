"""Columns are found by the names that programs give them."""

from __future__ import annotations

import pytest

from lightning_scaling.logfiles.names import Wanted, choose, normal


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["epoch", "step", "train_loss_epoch", "train_loss_step", "val_loss"], ("step", "train_loss_step", None)),
        (["step", "loss", "learning_rate", "grad_norm", "eval_loss"], ("step", "loss", "learning_rate")),
        (["_step", "trainer/global_step", "train/loss", "lr-AdamW"], ("trainer/global_step", "train/loss", "lr-AdamW")),
        (["_step", "_runtime", "train/global_step", "train/loss", "train/learning_rate"], None),
        (["iter", "train/loss", "val/loss", "lr"], ("iter", "train/loss", "lr")),
        (["Iteration", "Loss/train", "Loss/test"], ("Iteration", "Loss/train", None)),
        (["step", "optim/learning_rate_group0", "train/CrossEntropyLoss"], None),
        (["step", "aux_loss", "z_loss", "lm_loss"], ("step", "lm_loss", None)),
        (["step", "loss_scale", "loss"], ("step", "loss", None)),
        (["global_step", "smoothed_loss", "training_loss"], ("global_step", "training_loss", None)),
        (["epoch", "accuracy", "loss", "val_loss"], ("epoch", "loss", None)),
        (["step", "val_loss"], ("step", "val_loss", None)),
    ],
)
def test_what_programs_write(names: list[str], expected: tuple[str | None, ...] | None) -> None:
    found, _ = choose(names, Wanted(), "run.csv")
    if expected is None:
        expected = (
            ("train/global_step", "train/loss", "train/learning_rate")
            if "_step" in names
            else ("step", "train/CrossEntropyLoss", "optim/learning_rate_group0")
        )
    assert tuple(found.get(role) for role in ("step", "loss", "lr")) == expected


def test_what_else_could_be_meant_is_said() -> None:
    _, notes = choose(["step", "train_loss_a", "train_loss_b", "lr-Adam/pg1", "lr-Adam/pg2"], Wanted(), "run.csv")
    assert "'train_loss_b'" in notes[0]
    assert "2 learning rates 'lr-Adam/pg1'" in notes[1]
    _, notes = choose(["step", "val_loss"], Wanted(), "run.csv")
    assert notes == ["No training loss was found, so 'val_loss' is forecast."]


def test_a_named_column_wins() -> None:
    found, _ = choose(["step", "Val Loss", "loss", "lr"], Wanted(loss="val_loss", step="row", lr="none"), "run.csv")
    assert found == {"loss": "Val Loss"}


def test_a_column_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"Expected a column 'losss' in run\.csv, got 'step', 'loss', so name one"):
        choose(["step", "loss"], Wanted(loss="losss"), "run.csv")
    with pytest.raises(ValueError, match=r"Expected a column of losses in run\.csv, got 'step', 'accuracy', so name"):
        choose(["step", "accuracy"], Wanted(), "run.csv")


def test_min_and_max_of_an_export_are_no_losses() -> None:
    found, notes = choose(["Step", "train/loss", "train/loss__MIN", "train/loss__MAX"], Wanted(), "x")
    assert found["loss"] == "train/loss"
    assert notes == []


def test_normal_names() -> None:
    assert {normal(n) for n in ("global_step", "GlobalStep", "global step", "Global-Step")} == {"global_step"}
