"""The fits behind the delay of the law, on runs whose exponent and delay are known."""

import json

import numpy as np
import pytest

from benchmarks.burn_in import FORMS, fit, main, usable
from benchmarks.curves import RunCurve
from lightning_scaling.fit.power import effective_time

EVERY = 100


def run(alpha=0.5, delay=0.0, *, E=2.5, A=0.5, T=30_000, noise=0.0, first=EVERY, hard=False, **known):
    """Return a run logged every hundred steps that follows E + A t^-alpha, t counted as the engine does or hard."""
    S = np.arange(first, T + 1, EVERY, dtype=np.float64)
    t = S - delay if hard else effective_time(S, np.array(delay))
    L = E + A * (t / (T - delay)) ** -alpha + noise * np.random.default_rng(1).standard_normal(S.size)
    return RunCurve("r", "g", S, L, **{"schedule": "constant", **known})


@pytest.mark.parametrize(("alpha", "delay"), [(0.3, 150.0), (0.5, 400.0), (0.8, 900.0)])
def test_planted_exponent_and_delay_are_found_though_the_first_logs_lie_in_the_delay(alpha, delay):
    found = fit(run(alpha, delay, noise=1e-3), "smooth")
    assert found.alpha == pytest.approx(alpha, rel=0.02)
    assert found.delay == pytest.approx(delay, rel=0.02)
    assert found.first < 2e-3
    assert found.late == pytest.approx(1e-3, rel=0.2)


@pytest.mark.parametrize(("alpha", "delay"), [(0.45, 300.0), (0.6, 80.0)])
def test_a_hard_delay_before_the_first_log_is_found(alpha, delay):
    found = fit(run(alpha, delay, first=500, hard=True, noise=1e-3), "hard")
    assert found.alpha == pytest.approx(alpha, rel=0.03)
    assert found.delay == pytest.approx(delay, rel=0.06)


def test_without_the_delay_the_exponent_is_too_large_and_the_first_logs_are_missed():
    curve = run(0.5, 250.0, first=500, noise=1e-3)
    without, hard, smooth = (fit(curve, form) for form in FORMS)
    assert without.delay == 0.0
    assert without.alpha > 0.6
    assert without.first > 20.0 * smooth.first
    # The two delays are one as long as the run is logged from twice the delay on.
    assert hard.alpha == pytest.approx(smooth.alpha, rel=1e-3)
    assert hard.delay == pytest.approx(smooth.delay, rel=1e-2)


def test_a_run_without_delay_is_fitted_alike_by_all_forms():
    fits = [fit(run(0.5, noise=1e-3), form) for form in FORMS]
    for one in fits:
        assert one.alpha == pytest.approx(0.5, rel=0.02)
        assert one.delay < 0.05 * EVERY


def test_the_unit_of_the_loss_does_not_matter():
    curve = run(0.5, 400.0, noise=1e-3)
    one, two = (fit(RunCurve("r", "g", curve.S, L), "smooth") for L in (curve.L, 1000.0 * curve.L - 7000.0))
    assert (two.alpha, two.delay) == pytest.approx((one.alpha, one.delay), rel=1e-3)
    assert (two.first, two.late) == pytest.approx((1000.0 * one.first, 1000.0 * one.late), rel=1e-2)


def test_spikes_do_not_move_the_fit():
    curve = run(0.5, 400.0, noise=1e-3)
    spiked = curve.L.copy()
    spiked[60::97] += 2.0
    found = fit(RunCurve("r", "g", curve.S, spiked), "smooth")
    assert found.alpha == pytest.approx(0.5, rel=0.05)
    assert found.delay == pytest.approx(400.0, rel=0.05)


@pytest.mark.parametrize(
    ("known", "expected"),
    [({}, True), ({"schedule": "cosine"}, False), ({"horizon_known": False}, False), ({"T": 3_900}, False)],
)
def test_only_long_finished_runs_at_a_constant_rate_are_fitted(known, expected):
    assert usable(run(**known)) is expected


def write(folder, name, curve, group, schedule):
    rows = "\n".join(f"{s:.0f},{loss:.6f}" for s, loss in zip(curve.S, curve.L, strict=True))
    (folder / f"{name}.csv").write_text(f"step,loss\n{rows}\n", encoding="utf-8")
    return {"id": name, "group": group, "schedule": schedule}


def test_the_command_prints_and_writes_sources_first_then_runs(tmp_path, capsys):
    own = tmp_path / "my_runs"
    own.mkdir()
    index = [
        write(own, "a1", run(0.4, 300.0, noise=1e-3), "lab", "constant"),
        write(own, "a2", run(0.6, 300.0, noise=1e-3), "lab", "constant"),
        write(own, "b1", run(0.5, 200.0, noise=1e-3), "other", "constant"),
        write(own, "c1", run(0.5, 200.0), "other", "cosine"),
    ]
    (own / "index.json").write_text(json.dumps(index), encoding="utf-8")
    page = tmp_path / "docs" / "burn_in.md"
    assert main(["--curves", str(own), "--out", str(page)]) == 0
    printed, written = capsys.readouterr().out, page.read_text(encoding="utf-8")
    assert written.startswith("# Why the law has a delay\n\nA run at a constant learning rate")
    for text in (printed, written):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
        [lab] = [row for row in rows if row[0] == "lab" and row[2] == "smooth"]
        assert lab[1:5] == ["2", "smooth", "0.40 to 0.60", "300"]
        assert [row[0] for row in rows if row[0] in {"a1", "a2", "b1", "c1"}] == ["a1", "a2", "b1"]
        assert text.index("| lab ") < text.index("| a1 ")
    assert str(own) not in written


def test_no_usable_run_is_said(tmp_path, capsys):
    index = [write(tmp_path, "one", run(), "lab", "cosine")]
    (tmp_path / "index.json").write_text(json.dumps(index), encoding="utf-8")
    assert main(["--curves", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert 'Expected a run with "schedule": "constant"' in captured.err
    assert "got none among 1" in captured.err
