"""ComputeEfficient against the law it comes from, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from lightning_scaling import Action, ComputeEfficient, Forecast, LossCurve, Reason, TargetUnreachable, advise, forecast
from lightning_scaling.laws import KAPLAN_TABLE_3

N, HORIZON = 1e8, 60_000
COSINE = 0.5 + 0.5 * np.cos(np.pi * np.arange(HORIZON) / HORIZON)


def run(share: float, *, scale: float = 1.0, offset: float = 0.0, lr: np.ndarray | None = None) -> Forecast:
    """Forecast a run of L(N, S) of Table 3, or a multiple of it, from a share of its steps."""
    S = np.arange(100, int(share * HORIZON) + 1, 20, dtype=float)
    noise = 0.005 * np.random.default_rng(1).standard_normal(S.size)
    loss = scale * (np.asarray(KAPLAN_TABLE_3.loss(N, S)) + noise) + offset
    return forecast(LossCurve(S, loss), horizon=HORIZON, lr_schedule=np.ones(HORIZON) if lr is None else lr)


@pytest.mark.parametrize("irreducible", [0.0, 1.7])
@pytest.mark.parametrize("law", [(0.077, 0.76), (0.348, 0.366)])
def test_the_best_model_for_a_compute_ends_that_far_above_its_converged_loss(
    law: tuple[float, float], irreducible: float
) -> None:
    rule = ComputeEfficient(*law, irreducible=irreducible)
    N_term = 3.0

    def loss(log_N: float) -> float:
        """L(N, S) at fixed N S, the compute at a fixed batch size (B.3)."""
        return float(irreducible + N_term * np.exp(-rule.alpha_N * log_N) + np.exp(rule.alpha_S * (log_N - 3.0)))

    best = minimize_scalar(loss, bounds=(-20.0, 20.0), method="bounded", options={"xatol": 1e-10}).x
    reducible = N_term * np.exp(-rule.alpha_N * best)
    assert (loss(best) - irreducible - reducible) / reducible == pytest.approx(rule.excess, rel=1e-6)


def test_it_stops_once_the_run_has_passed_that_point_and_not_before() -> None:
    rule = ComputeEfficient()
    efficient = float(KAPLAN_TABLE_3.steps(N, (1.0 + rule.excess) * float(KAPLAN_TABLE_3.converged(N)))) / HORIZON
    assert 0.15 < efficient < 0.25
    actions = {times: rule.judge(run(times * efficient)).action for times in (0.5, 0.9, 1.0, 2.0, 4.0)}
    assert all(actions[times] is not Action.STOP for times in (0.5, 0.9, 1.0))
    assert actions[4.0] is Action.STOP


def test_only_shares_of_the_loss_count() -> None:
    plain, scaled = (ComputeEfficient().judge(run(0.8, scale=scale)) for scale in (1.0, 1000.0))
    assert plain.action is scaled.action is Action.STOP
    assert plain.evidence["probability"] == pytest.approx(scaled.evidence["probability"], abs=1e-6)


def test_an_irreducible_loss_puts_it_off() -> None:
    present = run(0.8)
    converged = float(present.converged_loss.mid)
    assert ComputeEfficient().judge(present).action is Action.STOP
    assert ComputeEfficient(irreducible=0.95 * converged).judge(present).reason is Reason.GAIN_WORTH_IT
    assert ComputeEfficient(irreducible=2.0 * converged).judge(present).reason is Reason.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("forecast_of", "action", "reason"),
    [
        (lambda: run(0.01), Action.WAIT, Reason.NO_FORECAST),
        (lambda: run(0.8, offset=-2.9), Action.WAIT, Reason.NOT_APPLICABLE),
        (lambda: run(0.06), Action.CONTINUE, Reason.GAIN_WORTH_IT),
    ],
)
def test_where_it_does_not_act(forecast_of: object, action: Action, reason: Reason) -> None:
    advice = ComputeEfficient().judge(forecast_of())  # type: ignore[operator]
    assert (advice.action, advice.reason) == (action, reason)
    assert all(isinstance(value, float) for value in advice.evidence.values())


def test_it_waits_where_the_converged_loss_is_not_identified() -> None:
    S = np.arange(1, 5001, dtype=float)
    loss = 2.0 + 300.0 * S**-0.9 + 0.02 * np.random.default_rng(3).standard_normal(S.size)
    present = forecast(LossCurve(S, loss), horizon=10_000, lr_schedule=np.ones(10_000))
    advice = ComputeEfficient().judge(present)
    assert (advice.action, advice.reason) == (Action.WAIT, Reason.NOT_IDENTIFIED)


def test_it_waits_for_half_of_a_decay() -> None:
    S = np.arange(1, 9001, dtype=float)
    loss = 2.0 + 6.0 * S**-0.5 + 0.02 * np.random.default_rng(3).standard_normal(S.size)
    cosine = 0.5 + 0.5 * np.cos(np.pi * np.arange(10_000) / 10_000)
    reasons = [
        ComputeEfficient().judge(forecast(LossCurve(S[:n], loss[:n]), horizon=10_000, lr_schedule=cosine)).reason
        for n in (3000, 6000)
    ]
    assert reasons == [Reason.DECAY_AHEAD, Reason.COMPUTE_EFFICIENT]


def test_its_sentence() -> None:
    sentence = ComputeEfficient().judge(run(0.8)).sentence
    assert sentence.startswith("Step 48 000 of 60 000: the run should end at 2.88")
    assert "the loss lies less than 10 % above the converged loss, 2.7" in sentence
    assert sentence.endswith(
        "; by Kaplan's law with no irreducible loss a larger model is the better use of compute from here on: stop."
    )


def test_as_an_adviser_it_adds_to_what_the_rules_say_and_never_says_stop() -> None:
    present, better = run(0.8), "a larger model is the better use of compute from here on."
    alone = advise(present, advisers=[ComputeEfficient()])
    assert (alone.action, alone.reason) == (Action.CONTINUE, Reason.COMPUTE_EFFICIENT)
    assert alone.sentence.endswith(better)
    in_reach, missed = TargetUnreachable(loss=3.5), TargetUnreachable(loss=2.0)
    both = advise(present, [in_reach], [ComputeEfficient()])
    assert (both.action, both.reason) == (Action.CONTINUE, Reason.COMPUTE_EFFICIENT)
    assert both.sentence.startswith(f"{in_reach.judge(present)} With probability 99")
    assert both.sentence.endswith(better)
    assert both.sentence.count("Step 48 000") == 1
    assert advise(present, [missed], [ComputeEfficient()]) == missed.judge(present)
    assert advise(run(0.1), advisers=[ComputeEfficient()]) == ComputeEfficient().judge(run(0.1))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"alpha_N": 0.0}, ValueError, "alpha_N to be a finite number >= 1e-06"),
        ({"alpha_S": "0.76"}, TypeError, "alpha_S to be a number"),
        ({"irreducible": -1.0}, ValueError, "irreducible to be a finite number >= 0"),
        ({"irreducible": float("nan")}, ValueError, "irreducible"),
        ({"confidence": 95}, ValueError, "give 0.95"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ComputeEfficient(**arguments)  # type: ignore[arg-type]
