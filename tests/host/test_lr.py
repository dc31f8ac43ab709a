"""The learning rates promised at any moment are the ones that the fit then uses."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import DataLoader

from lightning_scaling import ScalingLawMonitor
from lightning_scaling.host.lr import MAX_REPLAYED, lambda_rates, rates_ahead, scheduler_rates
from tests.trainers import QUIET, REPEATS_A_BATCH, Unsized, loader, scripted_module, trainer

pytestmark = QUIET


class Probe(Callback):
    """Records the rates used, and what was promised before the first step and after the step of number ``at``."""

    def __init__(self, at: int, horizon: int) -> None:
        self.at, self.horizon = at, horizon
        self.used: list[float] = []
        self.promised: dict[int, Any] = {}
        self.epoch_length: int | None = None

    def ask(self, trainer: Any, pl_module: Any) -> None:
        done = trainer.global_step
        before = copy.deepcopy([c.scheduler.state_dict() for c in trainer.lr_scheduler_configs])
        self.promised[done] = rates_ahead(trainer, pl_module, self.horizon - done, batches=self.epoch_length)
        after = [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs]
        assert str(before) == str(after), "the real schedulers were touched"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.ask(trainer, pl_module)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.used.append(float(optimizer.param_groups[0]["lr"]))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if trainer.global_step == self.at and self.at not in self.promised:
            self.ask(trainer, pl_module)


Make = Callable[[torch.optim.Optimizer], Any]


def configured(make: Make, lr: Any = 0.1, **config: Any) -> Callable[[Any], Any]:
    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9)
        made = make(optimizer)
        found = made if isinstance(made, list) else [made]
        return [optimizer], [{"scheduler": s, "interval": "step", **config} for s in found]

    return configure


def sequence(o: torch.optim.Optimizer) -> Any:
    return schedulers.SequentialLR(
        o, [schedulers.LinearLR(o, 0.1, total_iters=5), schedulers.CosineAnnealingLR(o, 20)], milestones=[5]
    )


def chain(o: torch.optim.Optimizer) -> Any:
    return schedulers.ChainedScheduler([schedulers.ConstantLR(o, 0.5, 4), schedulers.ExponentialLR(o, 0.9)])


CASES: dict[str, tuple[Make, dict[str, Any], dict[str, Any]]] = {
    "cosine": (lambda o: schedulers.CosineAnnealingLR(o, 24), {}, {}),
    "onecycle": (lambda o: schedulers.OneCycleLR(o, 0.3, total_steps=24), {}, {}),
    "onecycle, accumulation": (
        lambda o: schedulers.OneCycleLR(o, 0.3, total_steps=9),
        {},
        {"accumulate_grad_batches": 3},
    ),
    "lambda": (lambda o: schedulers.LambdaLR(o, lambda s: 1 / math.sqrt(s + 1)), {}, {}),
    "sequence": (sequence, {}, {}),
    "chain": (chain, {}, {}),
    "restarts": (lambda o: schedulers.CosineAnnealingWarmRestarts(o, 5, 2), {}, {}),
    "multiplicative": (lambda o: schedulers.MultiplicativeLR(o, lambda s: 0.9 + 0.01 * (s % 3)), {}, {}),
    "cyclic": (lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=4), {}, {}),
    "epochs": (lambda o: schedulers.StepLR(o, 1, 0.5), {"interval": "epoch"}, {}),
    "every second epoch": (lambda o: schedulers.ExponentialLR(o, 0.5), {"interval": "epoch", "frequency": 2}, {}),
    "every third batch": (lambda o: schedulers.ExponentialLR(o, 0.9), {"frequency": 3}, {}),
    "every third batch, accumulation": (
        lambda o: schedulers.ExponentialLR(o, 0.9),
        {"frequency": 3},
        {"accumulate_grad_batches": 2},
    ),
    "two on one optimizer": (
        lambda o: [schedulers.ExponentialLR(o, 0.95), schedulers.StepLR(o, 3, 0.5)],
        {},
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_promise_is_kept(case: str) -> None:
    make, config, settings = CASES[case]
    steps = 9 if settings.get("accumulate_grad_batches") == 3 else 12 if settings else 24
    probe = Probe(at=7, horizon=steps)
    trainer(probe, max_epochs=3, **settings).fit(scripted_module(configure=configured(make, **config)), loader(8))
    assert len(probe.used) == steps
    for done, promise in probe.promised.items():
        assert promise.rates == pytest.approx(probe.used[done:], rel=1e-12, abs=0), f"asked after {done} steps"
    assert len(probe.promised) == 2


EVERY: dict[str, Make] = {
    "ConstantLR": lambda o: schedulers.ConstantLR(o, 0.5, 3),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 12),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 2, 2),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=2, cycle_momentum=False),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda s: 1 / math.sqrt(s + 1)),
    "LinearLR": lambda o: schedulers.LinearLR(o, 0.1, total_iters=4),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda s: 0.9 + 0.01 * (s % 3)),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 3, 7], 0.5),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.3, total_steps=12),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 9, 2.0),
    "StepLR": lambda o: schedulers.StepLR(o, 2, 0.5),
    "SequentialLR": sequence,
    "ChainedScheduler": chain,
}


def test_every_scheduler_of_torch_is_among_them() -> None:
    known = {name for name in schedulers.__all__ if name not in ("LRScheduler", "ReduceLROnPlateau")}
    assert known == set(EVERY)


@pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using 'interval'. 'epoch'")
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("interval", "frequency", "A"), [("step", 1, 1), ("step", 3, 4), ("epoch", 1, 1)])
def test_every_scheduler_keeps_its_promise(name: str, interval: str, frequency: int, A: int) -> None:
    configure = configured(EVERY[name], interval=interval, frequency=frequency)
    probe = Probe(at=5, horizon=12)
    # With A = 4 the last of 13 batches steps alone.
    settings: dict[str, Any] = {
        "max_epochs": 3,
        "accumulate_grad_batches": A,
        "limit_train_batches": 13 if A > 1 else 4,
    }
    trainer(probe, **settings).fit(scripted_module(configure=configure), loader(13))
    assert len(probe.used) == 12
    assert len(probe.promised) == 2
    for done, promise in probe.promised.items():
        assert promise.rates == pytest.approx(probe.used[done:], rel=1e-12, abs=0), f"asked after {done} steps"


def test_rate_that_is_a_tensor() -> None:
    probe = Probe(at=4, horizon=8)
    make: Make = lambda o: schedulers.CosineAnnealingLR(o, 8)  # noqa: E731
    trainer(probe, max_steps=8).fit(scripted_module(configure=configured(make, lr=torch.tensor(0.1))), loader(8))
    assert probe.promised[0].rates == pytest.approx(probe.used)
    assert probe.promised[4].rates == pytest.approx(probe.used[4:])


def test_warm_up_that_is_a_method_of_the_module_copies_no_weights() -> None:
    class Warm(type(scripted_module())):  # type: ignore[misc]
        def warm(self, step: int) -> float:
            return min(1.0, (step + 1) / 5)

        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("the module was copied")

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [{"scheduler": schedulers.LambdaLR(optimizer, self.warm), "interval": "step"}]

    probe = Probe(at=3, horizon=8)
    trainer(probe, max_steps=8).fit(Warm(), loader(8))
    assert probe.promised[0].rates == pytest.approx(probe.used)


def test_without_a_scheduler_the_rate_is_constant() -> None:
    probe = Probe(at=3, horizon=8)
    trainer(probe, max_steps=8).fit(scripted_module(), loader(8))
    assert probe.promised[0].rates == pytest.approx(probe.used)
    assert probe.promised[0].why == "constant"


def test_resume_inside_an_epoch(tmp_path: Any) -> None:
    class Save(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            if trainer.global_step == 11:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")

    configure = configured(lambda o: schedulers.ExponentialLR(o, 0.9), frequency=3)
    whole, rest = Probe(at=-1, horizon=24), Probe(at=-1, horizon=24)
    trainer(whole, Save(), max_epochs=3).fit(scripted_module(configure=configure), loader(8))
    trainer(rest, max_epochs=3).fit(scripted_module(configure=configure), loader(8), ckpt_path=tmp_path / "mid.ckpt")
    if not REPEATS_A_BATCH:
        assert rest.used == pytest.approx(whole.used[11:])
    assert rest.promised[11].rates == pytest.approx(rest.used[:13])


def test_epoch_schedule_without_a_length_is_known_after_one_epoch() -> None:
    configure = configured(lambda o: schedulers.ExponentialLR(o, 0.5), interval="epoch")
    probe = Probe(at=5, horizon=15)

    class Learn(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            probe.epoch_length = 5
            if trainer.current_epoch == 0:
                probe.ask(trainer, pl_module)

    probe.at = -1
    trainer(probe, Learn(), max_epochs=3).fit(
        scripted_module(configure=configure), DataLoader(Unsized(5), batch_size=1)
    )
    assert probe.promised[0].rates is None
    assert "epoch" in probe.promised[0].why
    assert probe.promised[5].rates == pytest.approx(probe.used[5:])


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step.*before.*optimizer.step.*")
def test_what_cannot_be_known_is_said_to_be_unknown() -> None:
    def ask(configure: Any, base: Any = None) -> Any:
        probe = Probe(at=-1, horizon=8)
        trainer(probe, max_steps=1).fit(scripted_module(configure=configure, base=base), loader(8))
        return probe.promised[0]

    from lightning.pytorch import LightningModule

    class Own(LightningModule):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            scheduler.step()

    class NotCopied(schedulers.LambdaLR):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("no copies of me")

    def plateau(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedulers.ReduceLROnPlateau(optimizer), "monitor": "x", "strict": False},
        }

    assert "ReduceLROnPlateau" in ask(plateau).why
    assert "overridden" in ask(configured(lambda o: schedulers.ExponentialLR(o, 0.9)), base=Own).why
    assert "no copies of me" in ask(configured(lambda o: NotCopied(o, lambda s: 1.0))).why
    early = ask(configured(lambda o: schedulers.OneCycleLR(o, 0.3, total_steps=5)))
    assert early.rates is None
    assert "OneCycleLR" in early.why


def standing(make: Make, epoch_length: float = math.inf) -> Any:
    """Return what rates_ahead reads of a Trainer that has not begun, without running one."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    config = SimpleNamespace(scheduler=make(optimizer), interval="step", frequency=1, reduce_on_plateau=False)
    none = SimpleNamespace(current=SimpleNamespace(ready=0, processed=0, completed=0))
    return SimpleNamespace(
        optimizers=[optimizer],
        lr_scheduler_configs=[config],
        num_training_batches=epoch_length,
        callbacks=[],
        accumulate_grad_batches=1,
        strategy=SimpleNamespace(),
        fit_loop=SimpleNamespace(epoch_progress=none, epoch_loop=SimpleNamespace(batch_progress=none)),
    )


def test_an_optimizer_that_a_strategy_has_wrapped_follows_its_scheduler() -> None:
    run = standing(lambda o: schedulers.CosineAnnealingLR(o, 8))
    [inner] = run.optimizers
    run.optimizers = [SimpleNamespace(param_groups=inner.param_groups)]  # all that DeepSpeed's has of an optimizer
    found = rates_ahead(run, torch.nn.Linear(1, 1), 8)
    assert found.rates == pytest.approx([0.05 * (1 + math.cos(math.pi * s / 8)) for s in range(8)])
    assert inner.param_groups[0]["lr"] == 0.1


def long_sequence(n: int) -> Make:
    return lambda o: schedulers.SequentialLR(
        o,
        [schedulers.LinearLR(o, 0.01, total_iters=2000), schedulers.CosineAnnealingLR(o, n - 2000)],
        milestones=[2000],
    )


@pytest.mark.parametrize(
    ("make", "n"),
    [
        (
            lambda o: schedulers.LambdaLR(o, lambda s: min(s / 500, 1) * 0.5 * (1 + math.cos(math.pi * s / 1e5))),
            100_000,
        ),
        (lambda o: schedulers.OneCycleLR(o, 0.3, total_steps=100_001), 100_000),
        (long_sequence(100_000), 100_000),
        (lambda o: schedulers.PolynomialLR(o, 100_000, 2.0), 100_000),
    ],
    ids=["lambda", "onecycle", "sequence", "polynomial"],
)
def test_long_schedules_are_sampled_and_close(make: Make, n: int) -> None:
    assert n > MAX_REPLAYED
    sampled = rates_ahead(standing(make), torch.nn.Linear(1, 1), n).rates
    real = standing(make)
    scheduler, optimizer = real.lr_scheduler_configs[0].scheduler, real.optimizers[0]
    optimizer.step()
    exact = np.empty(n)
    for i in range(n):
        exact[i] = optimizer.param_groups[0]["lr"]
        scheduler.step()
    assert sampled is not None
    assert np.abs(sampled - exact).max() < 1e-4 * exact.max()


@pytest.mark.parametrize(
    "make",
    [
        lambda o: schedulers.MultiplicativeLR(o, lambda s: 1.0 if s < 60_000 else 0.9999),
        lambda o: schedulers.CosineAnnealingWarmRestarts(o, 70_000),
        chain,
    ],
    ids=["multiplicative", "restarts", "chain"],
)
def test_long_schedules_that_build_on_themselves_are_not_guessed(make: Make) -> None:
    ahead = rates_ahead(standing(make), torch.nn.Linear(1, 1), 100_000)
    assert ahead.rates is None
    assert "too long" in ahead.why


def test_a_million_steps_cost_about_a_second() -> None:
    n = 1_000_000
    started = time.perf_counter()
    for make in (long_sequence(n), lambda o: schedulers.CosineAnnealingLR(o, n)):
        assert rates_ahead(standing(make), torch.nn.Linear(1, 1), n).rates is not None
    assert time.perf_counter() - started < 3.0  # about 0.3 s for both on an idle core


def test_scheduler_that_is_slow_is_given_up_on() -> None:
    def slow(step: int) -> float:
        time.sleep(0.001)
        return 1.0

    started = time.perf_counter()
    ahead = rates_ahead(standing(lambda o: schedulers.LambdaLR(o, slow)), torch.nn.Linear(1, 1), 30_000)
    assert ahead.rates is None
    assert time.perf_counter() - started < 10.0


def test_a_replay_leaves_module_and_random_numbers_alone() -> None:
    class Writes(type(scripted_module())):  # type: ignore[misc]
        temperature = 1.0

        def rate(self, step: int) -> float:
            self.temperature += 1.0
            return 1.0 / (1 + step) + 0.0 * float(torch.rand(1))

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            return [optimizer], [{"scheduler": schedulers.LambdaLR(optimizer, self.rate), "interval": "step"}]

    def after(*callbacks: Any) -> tuple[float, float]:
        torch.manual_seed(0)
        module = Writes()
        trainer(*callbacks, max_steps=30).fit(module, loader(30))
        return module.temperature, float(torch.rand(1))

    assert after(ScalingLawMonitor(verbose=False)) == after()


LOOPED = {name: make for name, (make, config, settings) in CASES.items() if not config and not settings}


@pytest.mark.parametrize("name", [name for name in LOOPED if name != "two on one optimizer"])
@pytest.mark.parametrize("done", [0, 7])
def test_a_loop_without_a_trainer(name: str, done: int) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1, momentum=0.9)
    scheduler = LOOPED[name](optimizer)
    used = []
    for step in range(24):
        if step == done:
            ahead = scheduler_rates(scheduler, 24 - done)
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 23:
            scheduler.step()
    assert ahead.rates == pytest.approx(used[done:], rel=1e-12, abs=0)
    if name == "lambda":
        assert lambda_rates(scheduler, 24) == pytest.approx(used)
    else:
        assert lambda_rates(scheduler, 24) is None


@pytest.mark.parametrize("n", [100, 100_000], ids=["replayed", "sampled"])
def test_groups_stand_for_each_other_only_on_one_schedule(n: int) -> None:
    def ahead(*factors: Callable[[int], float]) -> Any:
        optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": 10.0**-i} for i in range(len(factors))])
        return scheduler_rates(schedulers.LambdaLR(optimizer, list(factors)), n)

    def down(step: int) -> float:
        return 1.0 - step / n

    rates = [down(step) for step in range(n)]
    assert ahead(down, down).rates == pytest.approx(rates, rel=1e-6)
    assert ahead(down, lambda step: 0.5 * down(step) + 0.005).rates == pytest.approx(rates, rel=1e-6)  # a floor of 1 %
    assert ahead(down, lambda step: 0.0).rates == pytest.approx(rates, rel=1e-6)  # does not train
    for other in (lambda step: 1.0, lambda step: max(down(step), 0.1), lambda step: down(step) ** 2):
        for factors in ((down, other), (other, down), (down, down, other)):
            found = ahead(*factors)
            assert found.rates is None
            assert found.why == "parameter groups are on different schedules: not known"


@pytest.mark.parametrize("together", [True, False])
def test_optimizers_stand_for_each_other_only_on_one_schedule(together: bool) -> None:
    run = standing(lambda o: schedulers.CosineAnnealingLR(o, 8))
    other = torch.optim.SGD([torch.zeros(1)], lr=0.7)
    run.optimizers.append(other)
    if together:
        scheduler = schedulers.CosineAnnealingLR(other, 8)
        run.lr_scheduler_configs.append(SimpleNamespace(**vars(run.lr_scheduler_configs[0]) | {"scheduler": scheduler}))
    found = rates_ahead(run, torch.nn.Linear(1, 1), 8)
    if together:
        assert found.rates == pytest.approx([0.05 * (1 + math.cos(math.pi * s / 8)) for s in range(8)])
    else:
        assert found.rates is None


def test_a_method_of_the_model_as_schedule_copies_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1000))
            self.asked = 0

        def warm(self, step: int) -> float:
            self.asked += 1
            return min(1.0, (step + 1) / 5)

    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = schedulers.LambdaLR(optimizer, model.warm)
    asked = model.asked
    monkeypatch.setattr(torch.nn.Parameter, "__deepcopy__", lambda self, memo: 1 / 0)
    assert scheduler_rates(scheduler, 8).rates == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.1, 0.1])
    assert model.asked == asked


def test_what_is_no_scheduler_of_torch_is_said() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    assert scheduler_rates(None, 5).why == "no scheduler was handed over"
    assert scheduler_rates(object(), 5).why == "object is no scheduler of torch"
    assert "waits" in scheduler_rates(schedulers.ReduceLROnPlateau(optimizer), 5).why


def test_a_function_of_the_step_that_fails_is_no_schedule() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = schedulers.LambdaLR(optimizer, lambda step: 1.0 if step < 5 else 1 / 0)
    assert lambda_rates(scheduler, 5) == pytest.approx([0.1] * 5)
    assert lambda_rates(scheduler, 6) is None
