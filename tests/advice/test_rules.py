"""Stop rules: a table of runs and what to do with them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_scaling import (
    Action,
    Converged,
    CurveBuilder,
    Diverged,
    Forecast,
    LossCurve,
    Reason,
    StopRule,
    TargetUnreachable,
    advise,
    forecast,
)
from lightning_scaling.named_schedule import named_rates


def law_run(share: float = 0.5, n: int = 10_000, *, jump: float = 0.0, lr: np.ndarray | None = None) -> Forecast:
    """Forecast a run of 2 + 6 S^-1/2 (2.06 at the end) from a share of it."""
    rng = np.random.default_rng(3)
    S = np.arange(1, int(share * n) + 1, dtype=float)
    loss = 2.0 + 6.0 * S**-0.5 + 0.02 * rng.standard_normal(S.size) + jump * (S > 0.8 * share * n)
    return forecast(LossCurve(S, loss), horizon=n, lr_schedule=lr)


WSD = np.where(np.arange(10_000) < 8_000, 1.0, 1.0 - (np.arange(10_000) - 8_000) / 2_000)


def curve_run(loss: np.ndarray, n: int = 10_000) -> Forecast:
    noise = 0.02 * np.random.default_rng(3).standard_normal(loss.size)
    return forecast(LossCurve(np.arange(1, loss.size + 1), loss + noise), horizon=n, lr_schedule=np.ones(n))


LOG_S = np.log(np.arange(1, 3001))
FLAT, FALLING_FASTER = np.full(3000, 2.3), 2.3 - 1.5 / (1.0 + np.exp(-(LOG_S - np.log(2700.0)) / 0.4))


@pytest.mark.parametrize(
    ("rule", "run", "action", "reason"),
    [
        (TargetUnreachable(1.8), law_run(), Action.STOP, Reason.TARGET_UNREACHABLE),
        (TargetUnreachable(2.06), law_run(), Action.CONTINUE, Reason.TARGET_IN_REACH),
        (TargetUnreachable(2.5), law_run(), Action.CONTINUE, Reason.TARGET_REACHED),
        (TargetUnreachable(2.0), law_run(lr=WSD), Action.CONTINUE, Reason.TARGET_IN_REACH),
        (TargetUnreachable(1.8), law_run(0.0006), Action.WAIT, Reason.NO_FORECAST),
        (TargetUnreachable(1.8), law_run(jump=3.0), Action.WAIT, Reason.LAW_REJECTED),
        (TargetUnreachable(1.8), curve_run(FALLING_FASTER), Action.WAIT, Reason.ACCELERATING),
        (TargetUnreachable(1.8), curve_run(FLAT), Action.WAIT, Reason.FLAT),
        (Converged(0.1), curve_run(FLAT, 4000), Action.STOP, Reason.CONVERGED),
        (Converged(0.2), law_run(), Action.STOP, Reason.CONVERGED),
        (Converged(0.001), law_run(), Action.CONTINUE, Reason.GAIN_WORTH_IT),
        (Converged(0.05), law_run(lr=WSD), Action.CONTINUE, Reason.GAIN_WORTH_IT),
        (Diverged(), law_run(), Action.CONTINUE, Reason.ON_COURSE),
        (Diverged(), law_run(jump=3.0), Action.STOP, Reason.DIVERGED),
        (Diverged(), law_run(jump=-1.0), Action.CONTINUE, Reason.ON_COURSE),
    ],
)
def test_what_each_rule_does(rule: StopRule, run: Forecast, action: Action, reason: Reason) -> None:
    advice = rule.judge(run)
    assert (advice.action, advice.reason) == (action, reason)
    assert advice.sentence.startswith(f"Step {run.step:,}".replace(",", " "))
    assert all(isinstance(value, float) for value in advice.evidence.values())


def test_a_broken_run_is_stopped_at_any_time() -> None:
    builder = CurveBuilder()
    builder.extend(range(1, 31), [3.0] * 20 + [math.nan] * 10)
    advice = Diverged().judge(forecast(builder.curve(), horizon=1000))
    assert (advice.action, advice.reason) == (Action.STOP, Reason.DIVERGED)
    assert "10 losses are NaN" in advice.sentence
    builder = CurveBuilder()
    builder.extend(range(1, 31), [3.0] * 29 + [math.inf])
    assert Diverged().judge(forecast(builder.curve(), horizon=1000)).action is not Action.STOP


def test_confidence_and_probability_agree() -> None:
    run = law_run()
    for target in np.linspace(2.0, 2.1, 21):
        stop = TargetUnreachable(float(target), confidence=0.9).judge(run).action is Action.STOP
        assert stop == (run.probability_below(float(target)) <= 0.1)


def test_confidence_of_converged_counts() -> None:
    run = law_run()
    gains = np.linspace(0.005, 0.05, 30)
    stops = [[Converged(float(g), c).judge(run).action is Action.STOP for g in gains] for c in (0.5, 0.99)]
    assert sum(stops[0]) > sum(stops[1])


def test_rules_allow_for_more_than_the_forecast_decay() -> None:
    before, half = law_run(0.5, lr=WSD), law_run(0.95, lr=WSD)
    assert before.decay_done == 0.0
    assert half.decay_done > 0.5
    target = float(before.final_loss.low) - 0.1  # 5 % below the interval: a decay may well bring that
    assert before.probability_below(target) < 0.05
    advice = TargetUnreachable(target).judge(before)
    assert (advice.action, advice.reason) == (Action.CONTINUE, Reason.DECAY_AHEAD)
    assert Converged(0.2).judge(before).action is Action.CONTINUE
    assert TargetUnreachable(0.5 * target).judge(before).action is Action.STOP
    assert TargetUnreachable(float(half.final_loss.low) - 0.1).judge(half).action is Action.STOP


@pytest.mark.parametrize("at", [0.4, 0.6, 0.7, 0.701, 0.72])
@pytest.mark.parametrize("rates", [(1.0, 0.1), (1.0, 0.1, 0.01), (1.0, 0.5, 0.25)], ids=str)
def test_a_loss_that_is_noise_of_its_rate_is_not_stopped_before_the_rate_falls_in_a_step(
    rates: tuple[float, ...], at: float
) -> None:
    n = 10_000
    S = np.arange(1, n + 1)
    lr = np.array(rates)[np.searchsorted([0.7 * n, 0.9 * n], S)[: S.size].clip(max=len(rates) - 1)]
    loss = (0.5 + 2.0 * S**-0.5) * lr * (1.0 + 0.02 * np.random.default_rng(0).standard_normal(n))
    target = 1.1 * float(loss[-200:].mean())
    run = forecast(LossCurve(S[: int(at * n)], loss[: int(at * n)]), horizon=n, lr_schedule=lr)
    assert TargetUnreachable(target).judge(run).action is not Action.STOP
    if at <= 0.7:
        assert Converged(0.15).judge(run).action is not Action.STOP
    if at <= 0.6:
        assert TargetUnreachable(target).judge(run).reason is Reason.DECAY_AHEAD
        assert TargetUnreachable(-0.5).judge(run).action is Action.STOP  # no rate brings that


@pytest.mark.parametrize("name", ["cosine", "cosine:0.1", "linear", "wsd:0.2", "wsd:0.1", "constant"])
def test_a_rate_that_glides_does_not_fall_in_a_step(name: str) -> None:
    for share in (0.3, 0.6, 0.95):
        assert law_run(share, lr=named_rates(name, 10_000, warmup=200)).decay_sudden == 0.0
    assert law_run(0.3).decay_sudden == 0.0


@pytest.mark.parametrize("name", ["cosine", "linear", "wsd:0.2"])
def test_a_loss_that_nothing_bounds_is_not_stopped_before_the_rest_of_a_gliding_rate(name: str) -> None:
    n = 6_000
    S, lr = np.arange(1, n + 1), np.asarray(named_rates(name, n))
    noise = 1.0 + 0.03 * np.random.default_rng(0).standard_normal(n)
    loss = (0.002 + 0.4 * np.exp(-S / 40.0) + 0.05 * lr) * noise  # a quadratic bowl: noise of the rate, and little else
    target = 1.3 * float(loss[-100:].mean())
    for share in (0.25, 0.4, 0.55, 0.7, 0.8):
        run = forecast(LossCurve(S[: int(share * n)], loss[: int(share * n)]), horizon=n, lr_schedule=lr)
        assert TargetUnreachable(target).judge(run).action is not Action.STOP
        assert run.decay_unbounded > 0.5
    held = forecast(LossCurve(S[:3000], loss[:3000]), horizon=n, lr_schedule=np.ones(n))
    assert held.decay_unbounded == 0.0


def test_a_loss_like_a_language_models_has_a_bound() -> None:
    assert law_run(0.5, lr=named_rates("cosine", 10_000, warmup=200)).decay_unbounded == 0.0


def test_any_stop_wins_then_any_continue() -> None:
    run = law_run()
    assert advise(run, [Diverged(), TargetUnreachable(1.8), Converged(0.001)]).reason is Reason.TARGET_UNREACHABLE
    assert advise(run, [Diverged(), TargetUnreachable(2.06)]).reason is Reason.ON_COURSE
    assert advise(run).reason is Reason.STILL_FALLING
    assert advise(law_run(0.0006)).action is Action.WAIT


def test_sentences_read_well() -> None:
    sentence = TargetUnreachable(1.8).judge(law_run(lr=np.ones(10_000))).sentence
    assert sentence.startswith("Step 5 000 of 10 000: the run should end at 2.06")
    assert sentence.endswith("target 1.8 has probability below 0.1 %: stop.")
    assert "if the learning rate stays as it is" in TargetUnreachable(1.8).judge(law_run()).sentence


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TargetUnreachable(math.nan), "loss to be a finite number"),
        (lambda: TargetUnreachable(1.0, confidence=95), "give 0.95"),
        (lambda: TargetUnreachable(1.0, confidence=0.3), "0.5 to below 1"),
        (lambda: Converged(-0.1), "min_gain to be a finite number >= 0"),
        (lambda: Diverged(1.0), ">= 2"),
    ],
)
def test_bad_rules(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]
