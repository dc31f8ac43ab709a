"""Squared norms of gradients of few and of many examples, taken during a backward and fetched without waiting."""
