"""What else could be done with a run, `ask`, and what lies between that and the plan, `alternative`."""

from lightning_scaling.alternatives.alternative import Alternative, Price
from lightning_scaling.alternatives.ask import decay_now, longer

__all__ = ["Alternative", "Price", "decay_now", "longer"]
