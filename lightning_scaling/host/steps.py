"""From the calls of Lightning's hooks to one (step, loss, learning rate) per optimizer step; no waiting for a device.

What arrives depends on how a module trains; the cases were measured with Lightning 2.6:

- automatic optimization: ``outputs["loss"]`` is a detached copy, divided by ``accumulate_grad_batches``, also in a
  window that the end of an epoch cuts short. A window's mean is therefore its sum times A / n.
- manual optimization: ``outputs["loss"]`` is what ``training_step`` returned, not divided. A module that returns
  nothing shows its loss in ``on_before_backward``, under fp16 multiplied by the scale of the gradient scaler.
- a skipped ``training_step`` (it returned None) still counts as an optimizer step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class StepTracker:
    """Turns hook calls into optimizer steps; `step`, `loss` and `lr` hold the latest.

    Attributes:
        step: Optimizer steps done, all optimizers of a manual step counted once.
        loss: Mean loss of the step's batches, a tensor on its device, None where there was none.
        global_step: The Trainer's own count, of every optimizer's steps.
        error: Why a loss could not be taken, None where it could.
        lr: Learning rate used, of the first optimizer's first parameter group.
    """

    def __init__(self) -> None:
        self.step = 0
        self.loss: Tensor | None = None
        self.lr: float | Tensor | None = None
        self.error: Exception | None = None
        self._automatic = True
        self.global_step = 0
        self._sum: Tensor | None = None
        self._n = 0
        self._backward: Tensor | None = None
        self._rate_taken = False

    def start(self, trainer: Any, pl_module: Any, step: int | None) -> None:
        """Begin or resume; ``step`` is the last optimizer step known from an earlier part of the run."""
        self._automatic = bool(pl_module.automatic_optimization)
        self.global_step = int(trainer.global_step)
        self._sum, self._n, self._backward, self._rate_taken = None, 0, None, False
        if self._automatic:
            self.step = self.global_step
        elif step is not None:
            self.step = step
        else:  # Lightning counts the steps of every optimizer here
            self.step = self.global_step // max(len(trainer.optimizers), 1)

    def before_backward(self, trainer: Any, loss: Tensor) -> None:
        """Keep the loss of a manual ``backward``; the first of a batch is the one that is kept."""
        if self._automatic or self._backward is not None:
            return
        loss = loss.detach()
        scale = getattr(getattr(trainer.precision_plugin, "scaler", None), "_scale", None)
        self._backward = loss if scale is None else loss / scale

    def before_optimizer_step(self, optimizer: Any) -> None:
        """Take the learning rate that is about to be used; the first optimizer of a step is the one that counts."""
        if self._rate_taken:
            return
        self._rate_taken = True
        lr = optimizer.param_groups[0]["lr"]
        # A tensor is changed in place by its scheduler, so it is copied, on its device.
        self.lr = lr.detach().clone() if isinstance(lr, Tensor) else lr

    def batch_end(self, trainer: Any, outputs: Any) -> bool:
        """Take what ``training_step`` returned; tell whether an optimizer step has just ended.

        A loss that cannot be taken is none, and `error` says why: the count of the steps goes on, because other ranks
        rely on it.
        """
        global_step = trainer.global_step
        stepped: bool = global_step != self.global_step
        self.error = None
        try:
            self._take(trainer, outputs, stepped)
        except Exception as error:
            self.error, self.loss, self._sum, self._n = error, None, None, 0
        self._backward = None
        if stepped:
            self._rate_taken = False
            self.global_step = global_step
            self.step = global_step if self._automatic else self.step + 1
        return stepped

    def _take(self, trainer: Any, outputs: Any, stepped: bool) -> None:
        # A dict is by far the commonest, and told quicker than that something is a mapping.
        loss = outputs.get("loss") if isinstance(outputs, (dict, Mapping)) else outputs
        if not isinstance(loss, Tensor):
            loss = self._backward
        if loss is not None and not self._automatic:
            loss = loss.detach().clone()  # Lightning clones in automatic optimization only; a reused buffer changes
        every = trainer.accumulate_grad_batches if self._automatic else 1
        if stepped and not self._n:  # by far the commonest case: one batch, one step
            self.loss = loss if loss is None or every == 1 else loss * every
            return
        if loss is not None:
            self._sum = loss.detach() if self._sum is None else self._sum + loss.detach()
            self._n += 1
        if stepped:
            self.loss = None if self._sum is None else self._sum * (every / self._n)
            self._sum, self._n = None, 0


def logged_step(trainer: Any) -> int:
    """Return the x-axis value that Lightning's own logging uses at this moment."""
    batches: int | None = getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", None)
    return int(trainer.global_step) if batches is None else batches


def may_stop(trainer: Any, *, epochs_done: int) -> bool:
    """Return whether ``min_steps`` and ``min_epochs`` allow an end now."""
    enough_steps = not trainer.min_steps or trainer.global_step >= trainer.min_steps
    return enough_steps and (not trainer.min_epochs or epochs_done >= trainer.min_epochs)


def is_half_precision(loss: Tensor) -> bool:
    """Return whether a loss has too few digits to forecast from (bfloat16 resolves 1 part in 256)."""
    return loss.dtype in (torch.bfloat16, torch.float16)
