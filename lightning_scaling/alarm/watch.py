"""The break-away alarm: has the loss left its own forecast, beyond what noise explains?"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.alarm.band import Band
from lightning_scaling.alarm.departure import Departure, sigmas_since
from lightning_scaling.alarm.jump_watch import CELLS, JumpWatch
from lightning_scaling.forecast import Forecast
from lightning_scaling.schedule import LRSchedule

__all__ = ["Alarm"]

FloatArray = NDArray[np.float64]

#: Sigmas beyond which noise does not explain a jump upwards, nor a departure from the forecast upwards and downwards;
#: benchmarks/alarm.py has chosen them.
THRESHOLDS = (4.5, 5.5, 8.0)
#: By how much more a jump has to stand out where no end is known, for then there are some three times as many looks.
_MORE_LOOKS = 0.5
#: Blocks that a run of known length is cut in; of any other a block is this share of the steps so far.
BLOCKS = 200
#: Blocks that are remembered, and that must have been seen before anything is said.
_KEPT, _FEWEST = 24, 16
#: Blocks after which a forecast is held against the losses: a newer one may know of the departure already.
_AGE = 4
#: Forecasts that are kept, and how far each is read: in intervals of refits and in shares of the run.
_BANDS, _INTERVALS, _REACH = 6, 3.0, 0.15
#: Single losses count up to so many mean differences of neighbours off their block, once so many were seen.
_CLIP, _SEEN = 3.5, 16
#: Losses over which the mean difference is forgotten, and growth that one of them may bring.
_MEMORY, _GROWTH = 64.0, 4.0
#: Blocks in a group, by which noise that is correlated for long is seen; and squares that are remembered of each size.
_GROUPS, _SQUARES = (1, 4), (32, 6)
#: A normal distribution's median square, in variances.
_MEDIAN_SQUARE = 0.4549
#: Weight of forecasts that hold in the record, how much of it stays with each one more, and the largest error [sigma].
_PRIOR, _STAYS, _WORST = 3.0, 0.6, 4.0
#: Forecasts that are for the record only.
_TRIALS = 2
#: Blocks after which forecasts are taken to know of a departure.
_ADAPTS = 10.0
#: Age of a forecast that knows nothing of a jump, in shares of the run.
_UNTOUCHED = 0.02
#: Share of the run over which the slope that is forecast is read.
_READ = 0.05
#: Departures that are remembered.
_FOUND = 16


@dataclass
class _Block:
    """Losses of neighbouring steps: those after ``begin`` up to ``end``."""

    begin: int
    end: int = 0
    n: float = 0.0
    sum_S: float = 0.0
    sum_L: float = 0.0
    sum_clipped: float = 0.0

    @property
    def S(self) -> float:
        return self.sum_S / self.n

    @property
    def L(self) -> float:
        return self.sum_clipped / self.n


def _mean_of(blocks: Sequence[_Block], band: Band | None) -> tuple[float, float, float]:
    """Return how many losses there are, their mean step, and their mean, less what was forecast of it."""
    n = sum(b.n for b in blocks)
    said = 0.0 if band is None else sum(b.n * band.mid_at(b.S) for b in blocks)
    return n, sum(b.sum_S for b in blocks) / n, (sum(b.sum_clipped for b in blocks) - said) / n


class Alarm:
    r"""Holds each loss against what the run itself had forecast of it, in time and memory that do not grow.

    Losses are averaged in blocks of a 200th of the run, single ones clipped where they stand off what the block before
    foretells. The blocks that a forecast has not seen are held against it (`sigmas_since`), for a departure that began
    with any one of them; the newest forecast that is four blocks old is taken, because a newer one may have learnt of
    the departure. The noise of a block is measured from second differences of blocks and of groups of four, where
    correlated noise shows. Forecasts that turn out to be off widen those to come:

    .. math:: f^2 = \max\!\left(\frac{\nu + \sum_k e_k^2}{\nu + \sum_k 1}, 1\right)

    with e_k their errors in sigmas, the older ones counting less. The first two of a run are for the record only.

    What a forecast may be off by hides a jump that the neighbouring losses show clearly: a `JumpWatch` holds the newest
    losses against those just before, which leaves of the forecast the shape only.

    Of a run of which no end is known, nothing is said in the first 200 steps, where its rate may rise still.

    What is found follows from the losses and forecasts alone, not from when they are handed over.

    Args:
        thresholds: Sigmas beyond which a jump upwards, a departure from the forecast upwards, and one downwards is
            found [1].

    Attributes:
        horizon: Planned end of the run [steps], None where it is not known.
        found: The departures so far, oldest first; at most 16 are kept.
    """

    def __init__(self, thresholds: tuple[float, float, float] = THRESHOLDS) -> None:
        self._thresholds = thresholds
        self.horizon: int | None = None
        self.found: list[Departure] = []
        self._told = 0
        self._bands: list[Band] = []
        self._blocks: list[_Block] = []
        self._open: _Block | None = None
        self._centre: float | None = None  # what its losses are clipped about
        self._n_blocks = 0
        self._n_losses = 0
        self._last = 0.0
        self._jump = 0.0  # mean difference of neighbouring losses
        self._squares: tuple[list[float], list[float]] = ([], [])
        self._used = 0  # step of the forecast that the losses are held against
        self._record = [0.0, 0.0]
        self._n_tried = 0
        self._quiet_until = 0
        self._marks: list[tuple[int, float]] = []  # steps and when they were done
        self._jumps = JumpWatch()

    def arm(self, forecast: Forecast, schedule: LRSchedule | None, interval: float) -> None:
        """Take a new forecast of the run.

        Args:
            forecast: The forecast.
            schedule: The planned learning rates it was made with, None where they are not known.
            interval: Steps to the next one [steps].
        """
        if not self._n_losses:
            return  # nobody hands losses over
        band = Band.of(forecast, schedule, max(_INTERVALS * interval, _REACH * (self.horizon or forecast.step)))
        if band is not None:
            self.hold(band)

    def hold(self, band: Band) -> None:
        """Take what a new forecast says of the steps that follow it."""
        self._bands = [*(b for b in self._bands if b.made < band.made), band][-_BANDS:]

    def disarm(self) -> None:
        """Forget the forecasts: the plan that they were made with has changed."""
        self._bands = []

    def take(self, steps: Iterable[int], losses: Iterable[float | None], now: float = math.nan) -> None:
        """Take losses in the order of their steps; those that are NaN, infinite or None are left out.

        Args:
            steps: Optimizer steps [steps].
            losses: Their losses [unit of the loss].
            now: The time [s], NaN where it is not known.
        """
        steps = tuple(steps)
        step = steps[-1] if steps else 0
        known = [(s, x) for s, x in zip(steps, losses, strict=True) if x is not None and math.isfinite(x)]
        if known:
            at, L = zip(*known, strict=True)
            done = 0
            while done < len(at):
                done = self._gather(at, L, done)
                self._close(at[done - 1], now)
        if step and (not self._marks or step - self._marks[-1][0] >= self._width(step)):
            self._marks = [*self._marks, (step, now)][-2 * _KEPT :]

    def news(self) -> tuple[Departure, ...]:
        """Return the departures that have been found since this was asked last."""
        fresh = tuple(self.found[len(self.found) - self._told :]) if self._told else ()
        self._told = 0
        return fresh

    def _width(self, step: int) -> float:
        return (self.horizon or step) / BLOCKS

    def _is_short(self, step: int) -> bool:
        """Return whether blocks are no longer than a step yet, in a run of which no end is known."""
        return self.horizon is None and step < BLOCKS

    def _gather(self, steps: Sequence[int], losses: Sequence[float], first: int) -> int:
        """Take losses from a place on until a block or a cell is full, and return the place after the last.

        There is one of them at every step of a run: what they change is kept at hand.
        """
        n, last, jump = self._n_losses, self._last, self._jump
        if (block := self._open) is None:
            begin = self._blocks[-1].end if self._blocks else steps[first] - 1
            block = self._open = _Block(begin)
            self._centre = self._foreseen(steps[first]) if n >= _SEEN else None
        cell, centre = self._jumps.cell(steps[first]), self._centre
        until = min(self._full_at(block.begin, BLOCKS), self._full_at(cell[0], CELLS))
        end = min(bisect_left(steps, until, first) + 1, len(steps))
        sum_L, sum_clipped, in_cell = block.sum_L, block.sum_clipped, cell[3]
        for loss in losses[first:end]:
            if n:
                difference, most = abs(loss - last), _GROWTH * jump
                if difference > most > 0.0:
                    difference = most
                jump += (difference - jump) * (1.0 / n if n < _MEMORY else 1.0 / _MEMORY)
            n += 1
            last = loss
            sum_L += loss
            in_cell += loss
            if centre is not None:
                reach = _CLIP * jump
                if loss > centre + reach:
                    loss = centre + reach
                elif loss < centre - reach:
                    loss = centre - reach
            sum_clipped += loss
        self._n_losses, self._last, self._jump = n, last, jump
        taken, sum_S = end - first, sum(steps[first:end])
        block.end, block.n, block.sum_S = steps[end - 1], block.n + taken, block.sum_S + sum_S
        block.sum_L, block.sum_clipped = sum_L, sum_clipped
        cell[1:] = cell[1] + taken, cell[2] + sum_S, in_cell
        return end

    def _full_at(self, begin: float, parts: int) -> float:
        """Return the step at which a part of the run, or of the run so far, is full that begins after another."""
        return begin + self.horizon / parts if self.horizon else begin * parts / (parts - 1)

    def _close(self, step: int, now: float) -> None:
        """Close what is full at a step, and hold it against the forecast."""
        block = self._open
        if block is not None and step - block.begin >= self._width(step):
            self._blocks = [*self._blocks, block][-_KEPT:]
            self._open = None
            self._n_blocks += 1
            self._measure()
            if self._n_blocks >= _FEWEST and not self._is_short(step):
                self._judge(now)
        length = float(self.horizon or step)
        if self._jumps.close(step, length) and not self._is_short(step):
            self._look(step, length, now)

    def _foreseen(self, step: int) -> float | None:
        """Return what a block that begins at a step should be: the one before, and the change that is forecast."""
        if not self._bands or not self._blocks:
            return None
        band, before = self._bands[-1], self._blocks[-1]
        return before.L + band.mid_at(step + 0.5 * (before.end - before.begin)) - band.mid_at(before.S)

    def _measure(self) -> None:
        """Measure the noise by the newest blocks, and groups of blocks, against the line through their neighbours."""
        for size, most, squares in zip(_GROUPS, _SQUARES, self._squares, strict=True):
            if self._n_blocks % size or len(self._blocks) < 3 * size:
                continue
            newest = self._blocks[-3 * size :]
            # A forecast takes out the bend of the curve; without one that can be done for neighbours only.
            bands = [b for b in self._bands if newest[0].begin >= b.made and newest[-1].S <= b.until]
            if not bands and size > 1:
                continue
            band = bands[-1] if bands else None
            (n, S, L), (n_mid, S_mid, L_mid), (n_last, S_last, L_last) = (
                _mean_of(newest[k : k + size], band) for k in range(0, 3 * size, size)
            )
            share = (S_mid - S) / (S_last - S)
            off = L_mid - (1.0 - share) * L - share * L_last
            squares.append(off * off / ((1.0 - share) ** 2 / n + 1.0 / n_mid + share**2 / n_last))
            del squares[:-most]

    def _noise(self) -> float:
        """Return the variance of the mean of n losses, times n [unit squared]."""
        known = [median(squares) for squares in self._squares if len(squares) > 2]
        return max(known, default=0.0) / _MEDIAN_SQUARE

    def _unseen(self, band: Band) -> list[_Block]:
        """Return the blocks that a forecast speaks of and has not seen."""
        return [b for b in self._blocks if b.begin >= band.made and b.S <= band.until]

    def _judge(self, now: float) -> None:
        """Hold the newest blocks against the forecast that is old enough."""
        newest = self._blocks[-1]
        since = self._blocks[-_AGE].begin
        band = next((b for b in reversed(self._bands) if b.made <= since), None)
        if band is None:
            return
        if band.made > self._used:
            self._remember()
            self._used = band.made
        if self._n_tried < _TRIALS or band.made < self._quiet_until or newest.S > band.until:
            return
        # No departure lasts unless the newest two blocks are off to one side: one look in two ends here.
        one, two = (b.L - band.mid_at(b.S) for b in self._blocks[-2:])
        if one * two <= 0.0:
            return
        sign, threshold = (1.0, self._thresholds[1]) if two > 0.0 else (-1.0, self._thresholds[2])
        blocks, noise = self._unseen(band), self._noise()
        n, off = [b.n for b in blocks], [sign * (b.L - band.mid_at(b.S)) for b in blocks]
        # Held against the forecast alone, as if that had no error, there are more sigmas than there can be with it.
        sums = zip(accumulate(reversed(n)), accumulate(map(mul, reversed(n), reversed(off))), strict=True)
        if all(x <= 0.0 or x * x <= threshold * threshold * noise * after for after, x in sums):
            return
        last = two + (newest.sum_L - newest.sum_clipped) / newest.n
        widened = max((_PRIOR + self._record[0]) / (_PRIOR + self._record[1]), 1.0)
        variance = [widened * sd * sd for sd in (band.sd_at(b.S) for b in blocks)]
        z = sigmas_since(n, off, sign * last, noise, variance, above=threshold)
        if (sigma := max(z)) <= threshold:
            return
        start = z.index(sigma)
        losses = sum(n[start:])
        loss = sum(b.sum_L for b in blocks[start:]) / losses
        expected = sum(b.n * band.mid_at(b.S) for b in blocks[start:]) / losses
        self._tell(blocks[start].begin, sign * sigma, loss, expected, newest.end, now)

    def _look(self, step: int, length: float, now: float) -> None:
        """Hold the newest losses against those just before, by the shape of the newest forecast older than a jump."""
        band = next((b for b in reversed(self._bands) if b.made <= step - _UNTOUCHED * length), None)
        if band is None or band.made < self._quiet_until or step > band.until:
            return
        found = self._jumps.look(band.S, band.mid, band.made, band.slope_sd(_READ * length), length)
        least = self._thresholds[0] + (_MORE_LOOKS if self.horizon is None else 0.0)
        if found is not None and found.sigma > least:
            self._tell(found.start, found.sigma, found.loss, found.loss - found.size, step, now)

    def _tell(self, before: int, sigma: float, loss: float, expected: float, noticed: int, now: float) -> None:
        """Note a departure that began after a step, and be quiet until forecasts know of it."""
        ago = now - self._time_of(before + 1)
        self.found = [*self.found, Departure(before + 1, sigma, loss, expected, noticed, ago)][-_FOUND:]
        self._told = min(self._told + 1, _FOUND)
        self._quiet_until = noticed + math.ceil(_ADAPTS * self._width(noticed))
        self._jumps.forget(before)

    def _remember(self) -> None:
        """Put into the record how far the forecast that has been in use was off."""
        band = next((b for b in self._bands if b.made == self._used), None)
        if band is None or band.made < self._quiet_until:
            return
        if not (blocks := self._unseen(band)):
            return
        n, _, off = _mean_of(blocks, band)
        sd = band.sd_at(sum(b.S for b in blocks) / len(blocks))
        error = off * off / max(sd * sd + self._noise() / n, 1e-300)
        self._n_tried += 1
        self._record = [_STAYS * self._record[0] + min(error, _WORST**2), _STAYS * self._record[1] + 1.0]

    def _time_of(self, step: int) -> float:
        """Return when a step was done, NaN where that is not known [s]."""
        if len(self._marks) < 2 or step < self._marks[0][0]:
            return math.nan
        steps, times = zip(*self._marks, strict=True)
        return float(np.interp(step, steps, times))

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists; the clock does not go on in another process and is left out."""
        bands = [[b.made, b.until, *(x.tolist() for x in (b.S, b.mid, b.sd))] for b in self._bands]
        blocks = [*self._blocks, *([] if self._open is None else [self._open])]
        return {
            "horizon": self.horizon,
            "found": [[d.step, d.sigma, d.loss, d.expected, d.noticed, d.seconds_ago] for d in self.found],
            "told": self._told,
            "bands": bands,
            "blocks": [[b.begin, b.end, b.n, b.sum_S, b.sum_L, b.sum_clipped] for b in blocks],
            "open": self._open is not None,
            "centre": self._centre,
            "counts": [self._n_blocks, self._n_losses, self._used, self._quiet_until, self._n_tried],
            "scale": [self._last, self._jump, *self._record],
            "squares": [list(x) for x in self._squares],
            "jumps": self._jumps.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.horizon = state["horizon"]
        self.found = [Departure(*row) for row in state["found"]]
        self._told = int(state["told"])
        self._bands = [Band(row[0], row[1], *(np.array(x) for x in row[2:5])) for row in state["bands"]]
        self._blocks = [_Block(*row) for row in state["blocks"]]
        self._open = self._blocks.pop() if state["open"] else None
        self._centre = state["centre"]
        self._n_blocks, self._n_losses, self._used, self._quiet_until, self._n_tried = state["counts"]
        self._last, self._jump, *self._record = state["scale"]
        self._squares = (list(state["squares"][0]), list(state["squares"][1]))
        self._marks = []
        if "jumps" in state:  # not in one of an earlier version
            self._jumps.load_state_dict(state["jumps"])
