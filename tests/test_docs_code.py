"""The Python of README.md and docs/ runs: the blocks of a page one after the other, in an empty folder.

A page takes some things as given, such as a model and its data: `given` has small ones, and the Trainers of the pages
make sixty steps. A block that cannot run here has a comment in the line before it that says why, which is not shown:

    <!-- not run: needs 8 GPUs -->
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import lightning_scaling
from lightning_scaling import LossCurve
from lightning_scaling.named_schedule import named_rates
from lightning_scaling.store.example import example_store

ROOT = Path(__file__).parents[1]

#: How many blocks say that they cannot run.
NOT_RUN = 0
#: Pages whose code runs in a test of their own.
ELSEWHERE = {"command_line.md"}
#: Pages that leave the imports of the public names out.
WITHOUT_IMPORTS = {"stop_rules.md"}
STEPS = 60

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^(<!-- not run: .+ -->\n)?```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_CODE = [page for page in PAGES if page.name not in ELSEWHERE and BLOCK.search(page.read_text(encoding="utf-8"))]


class Model(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(4, 1)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return (self.net(batch[0]) - batch[0].sum(dim=1, keepdim=True)).pow(2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def short(trainer: Callable[..., Any]) -> Callable[..., Any]:
    """Return a Trainer that makes few steps and is quiet; ``Trainer(..., )`` is that of Hugging Face."""

    def make(*args: Any, **kwargs: Any) -> Any:
        if args == (...,):
            transformers = pytest.importorskip("transformers")
            arguments = transformers.TrainingArguments("out", report_to=[], use_cpu=True)
            return transformers.Trainer(torch.nn.Linear(1, 1), arguments, **kwargs)
        quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        steps = min(kwargs.get("max_steps", STEPS), STEPS)
        return trainer(*args, **{**dict.fromkeys(quiet, False), "accelerator": "cpu", **kwargs, "max_steps": steps})

    return make


def given(page: Path) -> dict[str, Any]:
    """Return what the pages take as given."""
    data = torch.utils.data.TensorDataset(torch.randn(64, 4))
    model, parameter = Model(), torch.nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)

    def train(batch: list[torch.Tensor]) -> torch.Tensor:
        optimizer.step()
        scheduler.step()
        return batch[0].pow(2).mean()

    S = np.arange(50, 6_001, 50)
    losses = 1.8 + 8.0 * S**-0.5
    scan = [run.curve for run in example_store().runs(tags={"width": 32, "schedule": "constant"})]
    Path("run.csv").write_text("step,loss\n" + "\n".join(f"{s},{y}" for s, y in zip(S, losses, strict=True)))
    names = lightning_scaling.__all__ if page.name in WITHOUT_IMPORTS else ()
    return {
        **{name: getattr(lightning_scaling, name) for name in names},
        "Trainer": short(pl.Trainer),
        "curve": LossCurve(S=S, L=losses),
        "curves": scan,
        "loader": torch.utils.data.DataLoader(data, batch_size=8),
        "losses": losses,
        "model": model,
        "rates": named_rates("cosine", 20_000, warmup=100),
        "scheduler": scheduler,
        "steps": S,
        "torch": torch,
        "train": train,
    }


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in ("lightning.pytorch", "pytorch_lightning"):
        pytest.importorskip(module)
        monkeypatch.setattr(f"{module}.Trainer", short(pl.Trainer))
    torch.manual_seed(0)
    text, namespace = page.read_text(encoding="utf-8"), given(page)
    for found in BLOCK.finditer(text):
        if found[1] is None:
            lines_before = text.count("\n", 0, found.start(2))
            exec(compile("\n" * lines_before + found[2], str(page), "exec"), namespace)


def test_blocks_that_do_not_run_are_counted() -> None:
    found = [block for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8"))]
    assert len(found) > 25
    assert sum(bool(comment) for comment, _ in found) == NOT_RUN
