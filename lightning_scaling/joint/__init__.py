"""The law of model and steps, L(N, S), fitted to runs of several sizes at once.

From the outside in: `fit` is what a user calls, `result` what comes back, `problem` the posterior on a grid of
exponents, `points` what the runs are reduced to, and `choose` which runs are taken where there are
many.
"""

from lightning_scaling.joint.choose import MOST_RUNS, spread_over_sizes
from lightning_scaling.joint.fit import fit_joint
from lightning_scaling.joint.result import JointFit

__all__ = ["MOST_RUNS", "JointFit", "fit_joint", "spread_over_sizes"]
