"""Batch size: the gradient noise scale, what another batch would bring and cost, B_crit(L) from runs."""
