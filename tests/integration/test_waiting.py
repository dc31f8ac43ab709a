"""Between two fetches no hook asks a tensor for its value: whatever does is caught, by whichever way it asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from lightning_scaling import CurveRecorder, ScalingLawMonitor
from lightning_scaling.host.steps import StepTracker
from tests.trainers import QUIET, fit, loader, scripted_module, trainer, validated_module

pytestmark = QUIET

#: Every way to have a value of a tensor on the host, by the name that torch calls it.
WAYS: dict[str, Callable[[torch.Tensor], Any]] = {
    "item": lambda x: x.item(),
    "cpu": lambda x: x.cpu(),
    "numpy": lambda x: x.numpy(),
    "tolist": lambda x: x.tolist(),
    "__float__": float,
    "__int__": int,
    "__bool__": bool,
    "__index__": lambda x: [10, 20][x.long()],
    "__array__": lambda x: x.__array__(),
    "__format__": lambda x: f"{x:.3f}",
    "__repr__": repr,
    "to": lambda x: x.to("cpu"),
    "is_nonzero": torch.is_nonzero,
    "equal": lambda x: torch.equal(x, x),
    "nonzero": lambda x: x.nonzero(),
}


class NoValues(TorchFunctionMode):
    """While it is on, every tensor raises when its value is asked for; what asked is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in WAYS:
            self.asked.append(name)
            raise AssertionError(f"{name} waits for the device")
        return func(*args, **(kwargs or {}))


class Watched(ScalingLawMonitor):
    """A monitor whose every hook between the start and the end of training runs without values; fetches may have them.

    What the hooks raise the monitor catches, so look at `asked`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, verbose=False, **kwargs)
        self.ran: Counter[str] = Counter()
        self.asked: list[str] = []
        self.inside: NoValues | None = None
        for name in HOOKS:
            setattr(self, name, self._without_values(name, getattr(self, name)))

    def _without_values(self, name: str, hook: Callable[..., None]) -> Callable[..., None]:
        def watched(*args: Any) -> None:
            self.ran[name] += self._active
            with NoValues() as self.inside:
                hook(*args)
            self.asked += self.inside.asked

        return watched


#: All hooks of the monitor but those before the first batch and after the last.
HOOKS = [
    name
    for name in vars(ScalingLawMonitor)
    if name.startswith("on_") and name not in ("on_load_checkpoint", "on_train_start", "on_train_end", "on_exception")
]


@contextmanager
def fetches() -> Iterator[list[int]]:
    """Let the recorder's fetches have values; yield the number of values that each has fetched."""
    flush, sizes = CurveRecorder.flush, []

    def allowed(self: CurveRecorder, **how: Any) -> None:
        sizes.append(len(self._losses))
        with torch._C.DisableTorchFunction():
            flush(self, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CurveRecorder, "flush", allowed)
        yield sizes


def rate_on_the_device(module: Any) -> Any:
    """Return an optimizer whose learning rate is a tensor, as compiled ones have it."""
    return torch.optim.SGD(module.parameters(), lr=torch.tensor(0.1), foreach=False)


class Manual(type(scripted_module())):  # type: ignore[misc]
    """Manual optimization that returns nothing, so that the loss is seen in `on_before_backward` only."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_ask_is_caught(way: str) -> None:
    value = torch.tensor(1.0)
    WAYS[way](value)
    with NoValues() as mode, pytest.raises(AssertionError, match="waits"):
        WAYS[way](value)
    assert mode.asked


@pytest.mark.filterwarnings("ignore::lightning_scaling.ScalingWarning")  # the monitor says that it goes quiet
@pytest.mark.parametrize("hook", ["before_optimizer_step", "batch_end"])
@pytest.mark.parametrize("way", ["item", "__float__", "__bool__", "tolist"])
def test_a_hook_that_asks_is_found(monkeypatch: pytest.MonkeyPatch, hook: str, way: str) -> None:
    original = getattr(StepTracker, hook)

    def asks(self: StepTracker, *args: Any) -> Any:
        if self.step == 20:
            WAYS[way](torch.tensor(1.0))
        return original(self, *args)

    monkeypatch.setattr(StepTracker, hook, asks)
    monitor = Watched()
    with fetches():
        fit(monitor, steps=40)
    assert monitor.asked == [way]


@pytest.mark.parametrize(
    ("module", "validates", "name", "settings"),
    [
        (lambda: scripted_module(configure=rate_on_the_device), False, None, {}),
        (scripted_module, False, None, {"accumulate_grad_batches": 2}),
        (Manual, False, None, {}),
        (lambda: validated_module(configure=rate_on_the_device), True, None, {}),
        (validated_module, True, "val_loss", {}),
    ],
    ids=["automatic", "accumulated", "manual", "with a validation loss", "of a validation loss"],
)
def test_hooks_ask_for_no_value_between_fetches(
    module: Callable[[], Any], validates: bool, name: str | None, settings: dict[str, Any]
) -> None:
    monitor = Watched(name)
    runner = trainer(monitor, max_epochs=4, val_check_interval=50, **settings)
    with fetches() as sizes:
        runner.fit(module(), loader(100), loader(1) if validates else None)
    assert monitor.asked == []
    assert not monitor._has_warned  # it has not gone quiet
    steps = runner.global_step
    assert monitor.ran["on_train_batch_end"] == 400
    assert monitor.ran["on_before_backward"] == 400
    assert monitor.ran["on_before_optimizer_step"] == steps
    assert monitor.ran["on_train_epoch_end"] == monitor.ran["on_train_epoch_start"] == 4
    assert set(monitor.ran) == set(HOOKS) - (set() if validates else {"on_validation_start", "on_validation_end"})
    # Most steps were no fetch, and every loss came with one.
    assert sum(sizes) == steps + (8 if validates else 0)
    assert len([size for size in sizes if size]) < 0.15 * steps
    assert monitor.forecast is not None
