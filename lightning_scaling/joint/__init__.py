"""The law of model and steps, L(N, S), fitted to runs of several sizes at once.

From the outside in: `fit` is what a user calls, `result` what comes back, `problem` the posterior on a grid of
exponents, and `points` what the runs are reduced to.
"""

from lightning_scaling.joint.fit import fit_joint
from lightning_scaling.joint.result import JointFit

__all__ = ["JointFit", "fit_joint"]
