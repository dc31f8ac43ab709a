"""Verdict: whether a forecast can be trusted, why, and what to do about it."""

from __future__ import annotations

from enum import Enum

__all__ = ["Verdict"]


class Verdict(Enum):
    """What a forecast is worth.

    Each member says :attr:`why` and :attr:`what_to_do`; :attr:`usable` tells whether the forecast of the final loss may
    be acted on.

    Example:
        >>> Verdict.TOO_EARLY.usable, Verdict.OK.usable
        (False, True)
        >>> print(Verdict.NO_HORIZON.what_to_do)
        Give the planned end: max_steps or max_epochs in the Trainer, horizon=… in Python, or --horizon in a command.
    """

    OK = ("ok", True, "The law follows the run and its future is planned.", "Read the interval, not only its middle.")
    TOO_EARLY = (
        "too early",
        False,
        "The run has too few points for a law, is still in its warm-up, or has done less than 5 % of its steps.",
        "Wait: forecasts begin after the warm-up, with some 10 windows of steps and 5 % of the run.",
    )
    NOT_BEGUN = (
        "not begun",
        False,
        "The run has not begun, and there are no finished runs like it to borrow from.",
        "Give store=… with finished runs of its kind, its horizon and its learning rates, or begin: a run is forecast "
        "from 5 % of its own steps on.",
    )
    NO_HORIZON = (
        "no horizon",
        False,
        "The planned end of the run is not known, so it has no final loss; its converged loss is forecast.",
        "Give the planned end: max_steps or max_epochs in the Trainer, horizon=… in Python, or --horizon in a command.",
    )
    BORROWED = (
        "borrowed",
        True,
        "The run has not shown its law yet: the forecast rests on finished runs of its kind alone.",
        "Plan with it, and look again once a tenth of the run is done. No rule acts on it.",
    )
    DIVERGED = (
        "diverged",
        False,
        "The newest losses are NaN or infinite.",
        "Stop, and resume from a checkpoint before the break with a lower learning rate or clipped gradients.",
    )
    LAW_REJECTED = (
        "law rejected",
        True,
        "The newest losses lie far off what the run itself forecast a little earlier: no law of steps explains them.",
        "Look at the curve: a restart, a change of data or a learning rate that is too high does this. The interval is "
        "widened, but do not build on it.",
    )
    ACCELERATING = (
        "accelerating",
        True,
        "The loss falls faster and faster in log steps, which no power law does: the run has not found its law yet.",
        "Wait: forecasts are too high while this lasts, and no rule acts on them.",
    )
    RISING = (
        "rising",
        True,
        "The loss has turned and rises: a held-out loss of a run that overfits, or a run that comes apart.",
        "The best checkpoint lies behind. The interval reaches from a return to the law to a rise that speeds up.",
    )
    REPEATED_DATA = (
        "repeated data",
        True,
        "The training loss drops where the data begin again: it tells of data seen before, not of held-out loss.",
        "Go by a validation loss: one that is logged in a Trainer is forecast beside the training loss.",
    )
    FLAT = (
        "flat",
        True,
        "The loss does not fall by more than its noise.",
        "Be patient: this may be the end of the road at this learning rate, or a plateau before a fall. Rules wait "
        "until half of the run.",
    )
    BEFORE_DECAY = (
        "before decay",
        True,
        "The learning rate will fall but has hardly begun to: what the fall brings is known from other runs only.",
        "Expect the interval to narrow once the decay is under way.",
    )
    NOT_IDENTIFIED = (
        "converged loss not identified",
        True,
        "The planned end is forecast well enough, but the run does not yet show where the loss would end at infinity.",
        "Do not build on the converged loss; the final loss is not touched by this.",
    )
    FAILED = (
        "failed",
        False,
        "The fit could not be computed.",
        "Train on: this says nothing about the run. Please report the curve.",
    )

    def __init__(self, label: str, usable: bool, why: str, what_to_do: str) -> None:
        self.label = label
        self.usable = usable
        self.why = why
        self.what_to_do = what_to_do

    def __str__(self) -> str:
        return self.label
