"""Borrow from finished runs: which of them are kin to a run, what they share, and what that says of its end."""
