"""What the examples print: the monitor's words and a live reading, in a terminal as in a log file."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any

import pytorch_lightning as pl


def keep_quiet() -> None:
    """Print the monitor's sentences in order with our own, and leave out what Lightning says about the machine."""
    for handler in logging.getLogger("pytorch_lightning").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stdout)
        handler.addFilter(lambda record: record.levelno > logging.INFO or "lightning_scaling" in record.pathname)
    warnings.filterwarnings("ignore", message=".*does not have many workers")  # cutting up a tensor needs none
    warnings.filterwarnings("ignore", message=".*LeafSpec")  # Lightning-AI/pytorch-lightning#21326


class Lines(pl.Callback):
    """What the progress bar shows, for a log file: a line at each tenth of the run."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        step, steps = trainer.global_step, trainer.max_steps
        if step % max(steps // 10, 1) == 0:
            metrics = trainer.progress_bar_metrics.items()
            shown = "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in metrics)
            print(f"step {step:5} of {steps}  {shown}", flush=True)
