"""The side that faces a Trainer: what it can tell about the run, what it is told, and one fit from start to end.

`session` carries a fit; the other modules answer one question each: where it ends (`calendar`, `pace`, `horizon`), at
which learning rates (`lr`, both together a `plan`), how large the model and a step are (`size`, `batch`), what a hook
call means (`steps`), what was set (`settings`), where the numbers go (`outlets`), how it is put in words (`describe`),
what else could be done with the run (`advisor`) and what other runs know (`memory`).

Nothing in this folder imports Lightning, so that it serves ``lightning.pytorch`` and ``pytorch_lightning`` alike.
"""
