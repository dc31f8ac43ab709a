"""The forecast engine: a Bayesian fit of L(S) to one run, without torch, random numbers or iteration."""
