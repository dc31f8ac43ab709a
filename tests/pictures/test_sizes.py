from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_scaling import LossCurve, RunStore, StoredRun
from lightning_scaling.joint import JointFit, fit_joint
from lightning_scaling.laws import KaplanNS
from lightning_scaling.laws.frontier import KAPLAN_APPENDIX_B
from lightning_scaling.pictures import plot_frontier, plot_sizes
from lightning_scaling.pictures.axes import new_figure, windows
from lightning_scaling.pictures.colours import DARK, LIGHT, contrast

pytest.importorskip("matplotlib")

LAW = KaplanNS(alpha_N=0.1, alpha_S=0.6, N_c=1e9, S_c=20.0)
SIZES = (1e4, 1e5, 1e6)


def curve(N: float | None, B: float | None = 512.0, below: float = 0.0) -> LossCurve:
    S = np.arange(10.0, 3000.0, 10.0)
    noise = np.random.default_rng(int(N or 1.0)).normal(0.0, 0.01, S.size)
    return LossCurve(S, LAW.loss(N or 1e4, S) + noise - below, N=N, B=B)


@pytest.fixture
def store(tmp_path: Any) -> RunStore:
    return RunStore(tmp_path / "runs")


def stored(store: RunStore, *curves: LossCurve) -> list[StoredRun]:
    for one in curves:
        store.add(one, horizon=2990)
    return list(store)


def axes(face: str = LIGHT.face) -> Any:
    ax = new_figure(5.0, 3.0, face=face).subplots()
    ax.set_facecolor(face)
    return ax


def dots(ax: Any) -> list[np.ndarray]:
    return [np.asarray(c.get_offsets()) for c in ax.collections if len(c.get_offsets()) > 1]


def joint(runs: list[StoredRun]) -> JointFit:
    return fit_joint([run.curve for run in runs], offset=False)


def test_every_window_of_every_run_is_a_dot_in_the_colour_of_its_size(store: RunStore) -> None:
    runs = stored(store, *(curve(N) for N in (*SIZES, SIZES[0])))
    ax = plot_sizes(runs, ax=axes())
    found = dots(ax)
    assert len(found) == 4
    for points, run in zip(found, sorted(runs, key=lambda run: run.N or 0.0), strict=True):
        seen = windows(run.curve, run.curve.step, 12)
        assert seen is not None
        np.testing.assert_array_equal(points, np.column_stack([seen.S, seen.y]))
    colours = [tuple(c.get_facecolor()[0][:3]) for c in ax.collections]
    assert colours[0] == colours[1]
    assert len(set(colours)) == 3
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["10 k", "100 k", "1 M"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


@pytest.mark.parametrize("face", [LIGHT.face, DARK.face])
def test_sizes_stand_out_from_the_ground_the_largest_most(store: RunStore, face: str) -> None:
    ax = plot_sizes(stored(store, *(curve(N) for N in SIZES)), ax=axes(face))
    seen = [contrast(c.get_facecolor()[0], face) for c in ax.collections]
    assert min(seen) >= 3.0
    assert seen == sorted(seen)


def test_the_joint_law_is_drawn_as_it_is(store: RunStore) -> None:
    runs = stored(store, *(curve(N) for N in SIZES))
    fit = joint(runs)
    lines = [line for line in plot_sizes(runs, joint=fit, ax=axes()).lines if len(line.get_xdata()) > 2]
    assert len(lines) == len(SIZES)
    for line, N in zip(lines, SIZES, strict=True):
        S, L = line.get_data()
        assert (S[0], S[-1]) == (pytest.approx(fit.steps[0]), 2990)
        np.testing.assert_allclose(L, fit.loss(N, S).mid)


def test_a_joint_fit_that_failed_is_said(store: RunStore) -> None:
    runs = stored(store, curve(1e4), curve(1e5))
    fit = joint(runs)
    assert fit.reason
    for plot in (plot_sizes, plot_frontier):
        ax = plot(runs, joint=fit, ax=axes())
        assert "no joint law of these runs" in [text.get_text() for text in ax.texts]
        ax.figure.savefig("/dev/null", format="png")


def test_the_stairs_are_the_lowest_loss_so_far(store: RunStore) -> None:
    runs = stored(store, *(curve(N) for N in SIZES))
    ax = plot_frontier(runs, ax=axes())
    found = np.concatenate(dots(ax))
    for points, N in zip(dots(ax), SIZES, strict=True):
        seen = windows(next(run.curve for run in runs if run.N == N), 2990, 12)
        assert seen is not None
        np.testing.assert_allclose(points[:, 0], 6.0 * N * 512.0 * seen.S)
    [stairs] = [line for line in ax.lines if line.get_label() == "lowest so far"]
    C, L = (np.asarray(x) for x in stairs.get_data())
    for at in np.geomspace(C[0], C[-1], 50):
        assert L[np.searchsorted(C, at, side="right") - 1] == found[found[:, 0] <= at, 1].min()
    assert stairs.get_drawstyle() == "steps-post"


def test_the_frontier_of_a_law_is_the_laws(store: RunStore) -> None:
    runs = stored(store, *(curve(N) for N in SIZES))
    fit = joint(runs)
    [law] = [line for line in plot_frontier(runs, joint=fit, ax=axes()).lines if line.get_label() == "law"]
    C, L = (np.asarray(x) for x in law.get_data())
    exact = KaplanNS(*fit.best[:4])
    N = np.geomspace(1e2, 1e9, 4000)
    for c, loss in list(zip(C, L, strict=True))[::20]:
        assert loss == pytest.approx(float(exact.loss(N, c / (6.0 * 512.0 * N)).min()), rel=0.01)
    kaplan = plot_frontier(runs, joint=KAPLAN_APPENDIX_B, ax=axes())
    [law] = [line for line in kaplan.lines if line.get_label() == "law, in C_min"]
    C, L = law.get_data()
    np.testing.assert_allclose(L, KAPLAN_APPENDIX_B.loss(C))


def test_one_run_and_losses_below_zero_are_drawn(store: RunStore) -> None:
    runs = stored(store, curve(1e4, below=5.0))
    for plot in (plot_sizes, plot_frontier):
        ax = plot(runs, ax=axes())
        assert ax.get_yscale() == "linear"
        assert len(dots(ax)) == 1
        ax.figure.savefig("/dev/null", format="png")


def test_runs_that_cannot_be_drawn_are_left_out_or_an_error(store: RunStore) -> None:
    runs = stored(store, curve(1e4), curve(None), curve(1e5, B=None), LossCurve([1.0], [2.0], N=1e4))
    assert len(dots(plot_sizes(runs, ax=axes()))) == 2
    assert len(dots(plot_frontier(runs, ax=axes()))) == 1
    with pytest.raises(ValueError, match="Expected runs with a size N"):
        plot_sizes([run for run in runs if run.N is None], ax=axes())
    with pytest.raises(ValueError, match="Expected runs with a size N"):
        plot_sizes([], ax=axes())
    with pytest.raises(ValueError, match="Expected runs with a batch size"):
        plot_frontier([run for run in runs if run.batch is None and run.N], ax=axes())


def test_a_joint_law_is_of_one_batch_size(store: RunStore) -> None:
    runs = stored(store, curve(1e4), curve(1e5), curve(1e6, B=1024.0))
    with pytest.raises(ValueError, match="Expected runs of one batch size"):
        plot_frontier(runs, joint=joint(runs), ax=axes())
