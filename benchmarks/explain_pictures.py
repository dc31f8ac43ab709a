"""Drawing the pictures of docs/how_forecasts_work.md. Matplotlib is imported inside: the numbers do without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.looks import Decay, Record
from benchmarks.synthetic import Array, SyntheticRun
from lightning_scaling import Forecast, LossCurve
from lightning_scaling.fit.record import ORIGINS
from lightning_scaling.pictures import plot_schedule
from lightning_scaling.pictures.colours import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ORANGE, _GREEN, _BLUE = COLOURS[:3]
_THOUSANDS = "optimizer step [thousands]"
_SMOOTH = 300  # points of a drawn line
_DPI = 160


def draw_law(run: SyntheticRun, path: Path) -> None:
    """Draw the terms of the law on one run, over its learning rate."""
    from matplotlib.ticker import FixedLocator, NullLocator

    figure = _figure(6.4, 5.2)
    top, strip = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    end = float(run.horizon)
    first, last = 0.016 * end, 4.5 * end
    early, inside, beyond = (np.geomspace(first, x, _SMOOTH) for x in (0.35 * end, end, last))
    steps = np.unique(np.geomspace(first, end, 2500).astype(int))

    top.plot(steps, run.losses[steps - 1], ".", ms=3, mew=0, color=GREY, alpha=0.45)
    top.fill_between(early, run.power_law(early, delay=0.0), run.power_law(early), color=_thinned(_ORANGE), lw=0)
    top.plot(early, run.power_law(early, delay=0.0), color=_ORANGE, lw=1.4, ls=":")
    top.plot(beyond, run.power_law(beyond), color=_GREEN, lw=1.8, ls="--")
    top.plot([first, last], [run.E, run.E], color=_GREEN, lw=1.2, ls=":")
    top.plot(inside, run.expected(inside), color=_BLUE, lw=2.2)

    def at(share: float) -> float:
        return float(run.expected([share * end])[0])

    undecayed = float(run.power_law([end])[0])
    _arrow(top, 0.25 * end, run.E, at(0.25), _GREEN)
    _arrow(top, 1.12 * end, at(1.0), undecayed, _BLUE)
    top.plot([1.12 * end] * 2, [0.955 * run.E, at(1.0)], color=_BLUE, lw=1.0)
    for share, y, text, colour, ha, va in (
        (0.235, (run.E * at(0.25)) ** 0.5, r"$A\,(\zeta/\zeta_{now})^{-\alpha}$", _GREEN, "right", "center"),
        (0.018, 0.985 * run.E, "$E$, the limit of the power law", _GREEN, "left", "top"),
        (1.12, 1.04 * undecayed, "the power law: at peak\nrate it goes on to $E$", _GREEN, "left", "bottom"),
        (1.12, 0.95 * run.E, r"$b\,a(t)$, what the decay brings", _BLUE, "center", "top"),
        (0.09, at(0.075), "expected loss", _BLUE, "left", "center"),
        (0.35, 1.14 * at(0.35), "losses of single steps", GREY, "left", "center"),
    ):
        top.text(share * end, y, text, color=colour, ha=ha, va=va)
    top.annotate(
        "$\\delta$, what the beginning has cost:\nwithout it the law would be here",
        xy=(0.04 * end, float(run.power_law([0.04 * end], delay=0.0)[0])),
        xytext=(0.018 * end, 1.3 * run.E),
        color=_ORANGE,
        arrowprops={"arrowstyle": "-", "color": _ORANGE},
    )
    top.set(xscale="log", yscale="log", xlim=(first, last), ylim=(0.88 * run.E, 8.0), ylabel="loss [nats]")
    top.yaxis.set_major_locator(FixedLocator([2, 3, 4, 5, 6, 8]))
    top.yaxis.set_minor_locator(NullLocator())
    top.yaxis.set_major_formatter("{x:g}")
    _plain(top, "What the law is made of")
    plot_schedule(run.schedule, ax=strip)
    figure.savefig(path, dpi=_DPI)


def draw_decay(looks: Sequence[Decay], path: Path) -> None:
    """Draw what was forecast of runs before and during their decays, and what then happened."""
    figure = _figure(7.2, 4.6)
    level = 100.0 * looks[0].forecasts[0].level
    figure.suptitle(f"Forecasts before and during a decay, with {level:g} % intervals", x=0.01, ha="left")
    panels = figure.subplots(2, len(looks), sharex=True, sharey="row", height_ratios=[5, 1], squeeze=False)
    for look, top, strip in zip(looks, *panels, strict=True):
        _dots(top, look.run.curve())
        for k, forecast in enumerate(look.forecasts):
            _future(top, forecast, COLOURS[k], 1.04 + 0.05 * k)
            share = 100.0 * forecast.step / look.run.horizon
            words = f"{'' if k else 'forecast '}at {share:.0f} %: {_half_width(forecast)}"
            _flag(top, forecast.step, float(forecast.present_loss.mid), k, words)
        _end(top, look.run)
        _plain(top, look.name)
        _rate(strip, look.run)
    _limits(panels[0], [look.run for look in looks], [f for look in looks for f in look.forecasts], below=0.2)
    words = "before the decay,\nonly other runs tell\nwhat it will bring"
    panels[0, 0].text(0.03, 0.03, words, color=COLOURS[0], transform=panels[0, 0].transAxes)
    figure.savefig(path, dpi=_DPI)


def draw_record(looks: Sequence[Record], path: Path) -> None:
    """Draw how far earlier forecasts of the present were off, and the interval of the end that follows."""
    figure = _figure(7.2, 4.4)
    level = 100.0 * looks[0].forecast.level
    figure.suptitle(f"Forecasts of the present set the width of the next, {level:g} % intervals", x=0.01, ha="left")
    panels = figure.subplots(1, len(looks), sharex=True, sharey=True, squeeze=False)[0]
    for look, ax in zip(looks, panels, strict=True):
        now, (S_present, present) = look.seen.step, look.present
        _dots(ax, look.seen)
        _dots(ax, look.run.curve(), alpha=0.25)
        for k, (origin, surprise) in enumerate(zip(ORIGINS, look.fit.surprises, strict=True)):
            S = np.linspace(origin * now, S_present, _SMOOTH)
            band = look.band(k, S)
            _band(ax, S, band, COLOURS[k])
            words = f"{'' if k else 'forecast '}from {100 * origin:.0f} %: off by {abs(surprise):.1f} σ"
            _flag(ax, S[0], band[1, 0], k, words)
        k = len(ORIGINS)
        _future(ax, look.forecast, COLOURS[k], 1.05)
        _flag(ax, now, present, k, f"now, of the end: {_half_width(look.forecast)}")
        ax.plot([S_present / 1000], [present], marker="D", ms=5, color="k", zorder=5)
        _end(ax, look.run)
        _plain(ax, f"{look.name}: scale {look.fit.scale:.2g}")
        ax.set_xlabel(_THOUSANDS)
    _limits(panels, [look.run for look in looks], [look.forecast for look in looks])
    _explain_marks(panels[0], looks[0])
    figure.savefig(path, dpi=_DPI)


def _dots(ax: Axes, curve: LossCurve, alpha: float = 0.7) -> None:
    ax.scatter(curve.S / 1000, curve.L, s=7, color=GREY, alpha=alpha, linewidths=0, zorder=2)


def _future(ax: Axes, forecast: Forecast, colour: str, place: float) -> None:
    """Draw a forecast up to the planned end, and its interval there once more, beside it."""
    end = float(forecast.horizon or forecast.step)
    S = np.linspace(forecast.step, end, _SMOOTH)
    loss, final = forecast.loss_at(S), forecast.final_loss
    low, mid, high = (float(x) for x in (final.low, final.mid, final.high))
    _band(ax, S, np.array([loss.low, loss.mid, loss.high]), colour)
    x = place * end / 1000
    ax.plot([x, x], [low, high], color=colour, lw=2.2, solid_capstyle="butt", zorder=4)
    ax.plot([x], [mid], marker="o", ms=5, color=colour, zorder=4)


def _band(ax: Axes, S: Array, low_mid_high: Array, colour: str) -> None:
    low, mid, high = low_mid_high
    ax.fill_between(S / 1000, low, high, color=_thinned(colour), lw=0, zorder=1.5)
    ax.plot(S / 1000, mid, color=colour, lw=1.6, zorder=3)


def _flag(ax: Axes, step: float, loss: float, k: int, words: str) -> None:
    """Raise the k-th flag over a moment; the later, the lower, so that none cross."""
    style = {"arrowstyle": "-", "color": COLOURS[k], "shrinkA": 0.0, "shrinkB": 0.0, "relpos": (0.0, 1.0)}
    ax.annotate(
        f" {words}",
        xy=(step / 1000, loss),
        xytext=(step / 1000, 0.98 - 0.09 * k),
        textcoords=ax.get_xaxis_transform(),
        va="top",
        color=COLOURS[k],
        arrowprops=style,
        zorder=4,
    )


def _end(ax: Axes, run: SyntheticRun) -> None:
    """Mark what a run ended at, across the intervals beside its end."""
    end = run.horizon / 1000
    ax.plot([end, 1.2 * end], [run.end, run.end], color="k", lw=1.0, zorder=3.5)
    ax.plot([end], [run.end], marker="D", ms=5, color="k", zorder=5)
    ax.annotate(
        f"ended at\n{run.end:.3f}",
        xy=(1.0, run.end),
        xycoords=ax.get_yaxis_transform(),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
    )


def _explain_marks(ax: Axes, look: Record) -> None:
    """Say what the first diamond is, and what the faint dots after it are."""
    step, loss = look.present[0] / 1000, look.present[1]
    ax.annotate(
        "the present",
        xy=(step, loss),
        xytext=(0.02, 0.02),
        textcoords="axes fraction",
        arrowprops={"arrowstyle": "-", "shrinkB": 0.0, "relpos": (0.7, 1.0)},
    )
    ax.text(1.25 * step, loss, "what came later", color=GREY, va="center")


def _rate(ax: Axes, run: SyntheticRun) -> None:
    """Draw the learning rate as `plot_schedule` does, on an axis of thousands of steps."""
    S = np.arange(1, run.horizon + 1)
    ax.fill_between(S / 1000, run.schedule.rate_at(S), color=GREY, alpha=0.25, lw=0)
    ax.plot(S / 1000, run.schedule.rate_at(S), color=GREY, lw=1.2)
    ax.text(0.03, 0.3, "learning rate", transform=ax.transAxes, va="center")
    ax.set(xlabel=_THOUSANDS, ylim=(0.0, 1.1))
    ax.set_yticks([0.0, 1.0], ["0", "peak"])
    ax.spines[["top", "right"]].set_visible(False)


def _limits(
    panels: Sequence[Axes], runs: Sequence[SyntheticRun], forecasts: Sequence[Forecast], below: float = 0.05
) -> None:
    """Let panels that share their axes show the runs from a tenth on, every interval at the end, and room below."""
    low = min(float(f.final_loss.low) for f in forecasts)
    high = max(float(run.expected([0.1 * run.horizon])[0]) for run in runs)
    end = runs[0].horizon / 1000
    panels[0].set(xlim=(0.1 * end, 1.22 * end), ylim=(low - below * (high - low), high), ylabel="loss [nats]")


def _half_width(forecast: Forecast) -> str:
    return f"±{float(forecast.final_loss.half_width):.2g}"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _plain(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left")
    ax.spines[["top", "right"]].set_visible(False)


def _thinned(colour: str) -> tuple[float, ...]:
    """Return a colour thinned with white but opaque: bands that overlap do not mix."""
    from matplotlib.colors import to_rgb

    return tuple(0.3 * x + 0.7 for x in to_rgb(colour))


def _arrow(ax: Axes, x: float, low: float, high: float, colour: str) -> None:
    style = {"arrowstyle": "<->", "color": colour, "shrinkA": 0.0, "shrinkB": 0.0}
    ax.annotate("", (x, low), (x, high), arrowprops=style)
