"""Units: everything inside the package is in FLOP, seconds, tokens, steps and nats/token; these convert for print."""

from __future__ import annotations

DAY_S = 86_400.0
"""A day [s]."""

PF_DAY = 1e15 * DAY_S
"""A petaflop/s-day, 8.64e19 [FLOP]; Kaplan et al. 2020, arXiv:2001.08361, print compute in it."""


def thousands(n: float) -> str:
    """Return a count with a space between the thousands.

    Example:
        >>> thousands(20_000), thousands(1e6)
        ('20 000', '1 000 000')
    """
    return f"{n:,.0f}".replace(",", " ")
