"""LoggedMetric: the series of a metric that a module logs, taken when it is renewed; a validation loss above all.

How ``trainer.callback_metrics`` behaves, measured with Lightning 2.6: a validation's metrics are in it when
``on_validation_end`` is called, an epoch's when ``on_train_epoch_end`` is, except those that the module logs in its own
``on_train_epoch_end``, which runs after ours. What is not renewed stays in it; each look makes new tensors of old
values, which share their memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import Tensor

from lightning_scaling.errors import say_warning
from lightning_scaling.host.series import Series
from lightning_scaling.live import METRICS, LiveForecast
from lightning_scaling.recording.recorder import CurveRecorder
from lightning_scaling.refits import LAG

_VALIDATION_LOSS = re.compile(r"(val|valid|validation|eval)[_/.-](.*)loss(/dataloader_idx_\d+)?", re.IGNORECASE)
#: Validations, or epochs where none are, after which a metric that has not been there counts as missing; in the first
#: epoch, at the end of which it may be logged, more of them.
_PATIENCE, _FIRST_PATIENCE = 2, 10


def find_validation_loss(keys: Iterable[str]) -> str | None:
    """Return the key that is a validation loss by common naming, the shortest of several, None where there is none.

    Args:
        keys: Names of logged metrics.

    Example:
        >>> find_validation_loss(["train_loss", "val/nll_loss", "Valid/Loss", "val_acc"])
        'Valid/Loss'
    """
    found = [key for key in keys if _VALIDATION_LOSS.fullmatch(key)]
    return min(found, key=lambda key: (len(key), key), default=None)


def logged_by_others(trainer: Any, name: str) -> dict[str, Any]:
    """Return ``trainer.callback_metrics`` without what the monitor of a name has put there."""
    return {
        key: value
        for key, value in trainer.callback_metrics.items()
        if not (key.startswith(f"{name}/") and key.rpartition("/")[2] in METRICS)
    }


class LoggedMetric(Series):
    """The values of a logged metric by optimizer step, at most one per step, and their live forecast.

    The first `refits` values are forecast from one by one; after them a refit is due where it is for every step's loss.

    Args:
        name: Key of the metric in ``trainer.callback_metrics``, None while it is not known.
        live: Its forecasts.
        refits: Refits over the whole run.

    Attributes:
        is_fresh: Whether there may be values that nobody has looked at.
    """

    def __init__(self, name: str | None, live: LiveForecast, *, refits: int) -> None:
        super().__init__(name, CurveRecorder(), live)
        self.is_fresh = False
        self._refits = refits
        self._seen: object = None
        self._before: object = None
        self._newest = 0
        self._validations = 0
        self._epochs = 0
        self._has_warned = False

    def note(self, metrics: Mapping[str, Any]) -> None:
        """Remember what is there before a validation: at the next look, which is after it, that is not taken."""
        self._before = metrics.get(self.name or "")

    def take(self, metrics: Mapping[str, Any], step: int, lr: Tensor | float | None) -> None:
        """Take the metric if it has been renewed and the step has no value yet; no waiting for a device.

        Args:
            metrics: ``trainer.callback_metrics``.
            step: Optimizer step that the value belongs to [steps].
            lr: Learning rate in use.
        """
        value, before, self._before = metrics.get(self.name or ""), self._before, None
        if not isinstance(value, (Tensor, float, int)) or _is_same(value, self._seen) or _is_same(value, before):
            return
        self._seen = value
        if step > self._newest:
            self._newest = step
            self.recorder.append(step, value.detach().clone() if isinstance(value, Tensor) else float(value), lr)
            self.is_fresh = True

    def complain(
        self, metrics: Mapping[str, Any], after: Literal["validation", "epoch", "run"], *, validates: bool
    ) -> None:
        """Warn, once, of a metric that should have been there by now.

        Args:
            metrics: ``trainer.callback_metrics``.
            after: What has ended.
            validates: Whether the run has validations; then nothing is said before one has ended.
        """
        self._validations += after == "validation"
        self._epochs += after == "epoch"
        if self.name in metrics or self._newest or self._has_warned:
            return
        if validates:
            enough = 1 if after == "run" else _PATIENCE if self._epochs else _FIRST_PATIENCE
            self._has_warned = after != "epoch" and self._validations >= enough
        else:
            self._has_warned = after == "run" or self._epochs >= _PATIENCE
        if self._has_warned:
            there = ", ".join(sorted(metrics)) or "none at all"
            say_warning(
                f"Expected a metric {self.name!r} in callback_metrics, got {there}, so nothing is forecast of it until "
                "it is there; the training loss is, in `forecasts`."
            )

    def fetch(self, step: int, *, at_once: bool = False) -> bool:
        """Bring new values to the host; return whether they are there to be looked at.

        Values on a device are sent off first, and taken in `LAG` steps after the one they belong to, or once there is a
        newer one.

        Args:
            step: Optimizer steps done [steps].
            at_once: Whether to wait for those that are on their way.
        """
        recorder = self.recorder
        if at_once:
            recorder.flush()
            self.is_fresh = False
            return True
        if recorder.sent is None:
            recorder.flush(wait=False)
        if (sent := recorder.sent) is not None:
            if step < sent + LAG and self._newest == sent:
                return False
            recorder.land()
        self.is_fresh = self._newest > (recorder.step if sent is None else sent)
        return True

    def is_due(self) -> bool:
        """Return whether there is a new value and it is time to fit again."""
        return self.is_behind() and (len(self.live.ledger) < self._refits or super().is_due())

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return {"name": self.name, **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises:
            ValueError: If the state is of another version.
        """
        super().load_state_dict(state)
        self.name = state["name"]
        self._newest = self.recorder.step
        self.is_fresh = True


def _is_same(value: object, seen: object) -> bool:
    """Return whether two looks have found the same value, without asking a device for it."""
    if not (isinstance(value, Tensor) and isinstance(seen, Tensor)):
        return value is seen
    try:
        return value.data_ptr() == seen.data_ptr()
    except RuntimeError:  # a tensor without memory of its own, as on XLA
        return False
