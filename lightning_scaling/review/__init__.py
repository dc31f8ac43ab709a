"""Looking back and across: what would have been said of runs that are over, and several runs side by side.

`play` goes through a finished run as a monitor would have, `baselines` are the simpler methods that it is held against,
`ending` says where a run has ended, and `side_by_side` which of several runs ends best.
"""

from lightning_scaling.review.baselines import BASELINES
from lightning_scaling.review.ending import ended
from lightning_scaling.review.play import Look, Outcome, Replay, RuleScore, Stop, default_rules, replay, scores
from lightning_scaling.review.side_by_side import Comparison, Contender, SpeedUp, compare, probability_best, speed_up

__all__ = [
    "BASELINES",
    "Comparison",
    "Contender",
    "Look",
    "Outcome",
    "Replay",
    "RuleScore",
    "SpeedUp",
    "Stop",
    "compare",
    "default_rules",
    "ended",
    "probability_best",
    "replay",
    "scores",
    "speed_up",
]
