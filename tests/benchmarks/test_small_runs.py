"""The small runs: every task and recipe trains, and the benchmark of accuracy reads what they leave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import accuracy, small_runs
from benchmarks.curves import load_curves
from benchmarks.small_runs_recipes import RECIPES
from benchmarks.small_runs_tasks import TASKS

CHEAP = [name for name in TASKS if name not in ("language", "fine-tuning")]  # those read the whole standard library


@pytest.mark.parametrize("name", CHEAP)
def test_every_task_yields_losses_that_can_be_learnt(name: str) -> None:
    task = TASKS[name]
    torch.manual_seed(0)
    model, losses = task.make(0)
    loss = next(losses)
    loss.backward()
    assert loss.ndim == 0
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters() if p.numel() < 1e4)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_at_the_rates_that_it_says(name: str) -> None:
    recipe, steps = RECIPES[name], 40
    rows = small_runs.train(TASKS["teacher"], recipe, seed=0, steps=steps)
    step, loss, lr = (np.array(x) for x in zip(*rows, strict=True))
    assert step.tolist() == list(range(1, steps + 1))
    assert np.isfinite(loss).all()
    relative = [recipe.relative_rate(int(s), steps) for s in step]
    assert lr / lr.max() == pytest.approx(np.array(relative) / max(relative))
    assert min(relative) >= 0.0
    assert max(relative) == pytest.approx(1.0, rel=0.3)


def test_every_task_names_recipes_that_there_are_and_every_recipe_is_used() -> None:
    assert {name for task in TASKS.values() for name in task.recipes} == set(RECIPES)


def test_runs_are_scored_by_the_benchmark_and_not_trained_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    order = ["--out", str(out), "--only", "table", "--steps", "250"]
    assert small_runs.main(order) == 0
    trained = capsys.readouterr().out
    assert trained.count("table_") == len(TASKS["table"].recipes)
    assert small_runs.main(order) == 0
    assert capsys.readouterr().out == ""
    curves = load_curves(out)
    assert {c.group for c in curves} == {"table"}
    assert all(c.T == 250 and c.rates() is not None for c in curves)
    # Two recipes do not see the same batches.
    first, second = (c.L[0] for c in curves[:2])
    assert first != second
    page = tmp_path / "page.md"
    asked = ["--curves", str(out), "--methods", "lightning_scaling", "--fractions", "0.5", "--out", str(page)]
    assert accuracy.main(asked) == 0
    text = page.read_text(encoding="utf-8")
    assert "benchmarks.small_runs --out DIR --seed 0" in text
    assert "other\npeople's runs" not in text
    assert "table_sgd-steps_s0" in text
