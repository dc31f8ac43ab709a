"""When to fetch the losses and fit again: few moments, chosen by the step alone so that a resumed run keeps to them."""

from __future__ import annotations

import math

#: Earliest refit [steps]: before it there is nothing to fit.
FIRST = 10
#: Steps of equal ratio are no closer than this: where the end is known, nothing can be said of it so early in a run.
EARLY_RATIO = 1.5
#: Steps between two fetches of the losses where no refit asks for one sooner.
BUFFER = 256
#: The same across ranks, where what rank 0 decides takes two fetches to reach everyone; shorter early in a run.
RANK_BUFFER = 64
#: Steps after which losses that a device has sent off are taken in. By then they have arrived; where a host that runs
#: ahead has to wait for them after all, its device has so many steps in its queue to go on with.
LAG = 8


def next_refit(step: int, horizon: int | None, refits: int) -> int:
    """Return the first moment after ``step`` at which to fit again.

    Half of the refits are spread evenly over the run (for 40 every 5 % of it, so that the tenths of the closing table
    are among them); the other half at steps of equal ratio from step 10 up to the first of those, where the loss
    changes fastest, but in a short run fewer, so that each comes half as late again as the one before. After the
    planned end, and where no end is known, the ratio goes on, so that their number grows with the logarithm of the run
    only (for 40 some 20 per factor of 100).

    Args:
        step: Optimizer steps done [steps].
        horizon: Planned end [steps], None where it is not known.
        refits: Most refits over the whole run, at least 4.

    Returns:
        A step above ``step``, the planned end being one of them.

    Example:
        >>> steps = [0]
        >>> while steps[-1] < 20_000:
        ...     steps.append(next_refit(steps[-1], 20_000, 40))
        >>> steps[1:6], steps[-3:], len(steps) - 1
        ([10, 15, 23, 34, 51], [18000, 19000, 20000], 32)
    """
    if step < FIRST:
        return FIRST if horizon is None or horizon > FIRST else max(horizon, step + 1)
    even = refits // 2
    if horizon is None or step >= horizon:
        return _log_spaced(step, 100.0 ** (1.0 / even))
    spacing = horizon / even
    following = math.ceil((math.floor(step / spacing + 1e-9) + 1) * spacing - 1e-9)
    if step < spacing:
        ratio = max((spacing / FIRST) ** (1.0 / (refits - even)), EARLY_RATIO)
        following = min(following, _log_spaced(step, ratio))
    return max(min(following, horizon), step + 1)


def next_fetch(step: int, refit: int, *, across_ranks: bool, horizon: int | None = None) -> int:
    """Return the step above ``step`` at which to fetch the losses; across ranks it must follow from the step alone.

    Where no refit is due they are fetched at the multiples of `BUFFER`, wherever the run was resumed; in a short run at
    those of a hundredth of it, so that a departure from the forecast is seen soon, but no more often than a device can
    answer.

    Args:
        step: Optimizer steps done [steps].
        refit: Where the next refit is due [steps].
        across_ranks: Whether every rank takes part in a fetch.
        horizon: Planned end [steps], None where it is not known.
    """
    if across_ranks:
        return step + min(max(step // 16, 4), RANK_BUFFER)
    following = (step // BUFFER + 1) * BUFFER
    if horizon is not None and 40 * LAG <= horizon < 100 * BUFFER and horizon <= 20 * step:
        # Parts of a twentieth, at whose ends the refits are by then, so that two fetches are never close together.
        width = horizon / (20 * min(horizon // (40 * LAG), 5))
        following = math.ceil((math.floor(step / width + 1e-9) + 1) * width - 1e-9)
    return max(min(refit, following), step + 1)


def _log_spaced(step: int, ratio: float) -> int:
    """Return the first of 10, 10·ratio, 10·ratio², … (rounded up) above a step, itself at least 10."""
    k = max(math.floor(math.log(step / FIRST) / math.log(ratio)), 0)
    while (found := math.ceil(FIRST * ratio**k * (1.0 - 1e-12))) <= step:
        k += 1
    return found
