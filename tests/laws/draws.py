"""What the properties of the laws are tried on."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lightning_scaling.laws import CriticalBatch, HoffmannND, KaplanC, KaplanD, KaplanN, KaplanND, KaplanNS


def between(low: float, high: float) -> st.SearchStrategy[float]:
    """Draw numbers evenly in their logarithm."""
    return st.floats(np.log(low), np.log(high)).map(lambda x: float(np.exp(x)))


sizes = between(1e3, 1e13)
tokens = between(1e6, 1e14)
computes = between(1e15, 1e27)
steps = between(1.0, 1e12)
batches = between(1e-3, 1e15)
losses = between(0.1, 20.0)
factors = st.floats(1.01, 100.0)
exponents = st.floats(0.03, 0.5)
excesses = between(1e-4, 1.0)

criticals = st.builds(CriticalBatch, B_star=between(1e5, 1e10), alpha_B=st.floats(0.1, 1.0))
laws_N = st.builds(KaplanN, alpha_N=exponents, N_c=between(1e10, 1e15))
laws_D = st.builds(KaplanD, alpha_D=exponents, D_c=between(1e10, 1e15))
laws_C = st.builds(KaplanC, alpha_C=exponents, C_c=between(1e22, 1e30))
laws_ND = st.builds(KaplanND, alpha_N=exponents, alpha_D=exponents, N_c=between(1e10, 1e15), D_c=between(1e10, 1e15))
laws_NS = st.builds(
    KaplanNS,
    alpha_N=exponents,
    alpha_S=st.floats(0.2, 1.5),
    N_c=between(1e10, 1e15),
    S_c=between(10.0, 1e5),
)
hoffmanns = st.builds(
    HoffmannND,
    E=st.just(0.0) | st.floats(0.5, 3.0),
    A_N=between(10.0, 1e4),
    A_D=between(10.0, 1e4),
    alpha_N=st.floats(0.2, 0.6),
    alpha_D=st.floats(0.2, 0.6),
)
