"""The runs of the ladder: which sizes, schedules, lengths and batch sizes are trained, and at which learning rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Every run warms up over so many steps, whatever its length.
WARM_UP = 40
#: WSD holds its rate up to this share of the run.
_WSD_HOLDS = 0.8


@dataclass(frozen=True)
class Recipe:
    """One run.

    Args:
        part: What the run is for: ``ladder``, ``schedule``, ``length`` or ``batch``.
        width: Width of the model; its depth and context are those of the scale.
        schedule: ``constant``, ``cosine``, ``wsd`` or ``linear``.
        steps: Length [steps].
        batch: Crops per step.
        lr: Peak learning rate.
    """

    part: str
    width: int
    schedule: str
    steps: int
    batch: int
    lr: float

    @property
    def name(self) -> str:
        """Name of the run: it tells it apart in the store."""
        return f"w{self.width}-{self.schedule}-{self.steps}-b{self.batch}"

    def relative_rate(self, step: int) -> float:
        """Return the learning rate after ``step`` steps, in parts of its peak."""
        if step < WARM_UP:
            return (step + 1) / WARM_UP
        done = min((step - WARM_UP) / max(self.steps - WARM_UP, 1), 1.0)
        if self.schedule == "cosine":
            return 0.1 + 0.45 * (1.0 + math.cos(math.pi * done))
        if self.schedule == "linear":
            return 1.0 - done
        if self.schedule == "wsd":
            held = (_WSD_HOLDS * self.steps - WARM_UP) / max(self.steps - WARM_UP, 1)
            return min(1.0, (1.0 - done) / (1.0 - held))
        return 1.0


@dataclass(frozen=True)
class Scale:
    """How large the ladder is.

    Args:
        widths: Widths of the models, from the smallest to the largest, multiples of the four heads.
        depth: Their layers.
        context: Bytes of a crop.
        batch: Crops per step.
        steps: Length of the runs [steps].
        lr: Peak learning rate of a model of the first width.
        lr_power: Exponent p of the learning rate, lr (width / first width)^p.
        decayed: Widths also trained with WSD.
        linear: Widths also trained with a linear decay.
        shorter: Widths also trained for a third of the length.
        longer: Widths also trained for twice the length.
        scanned: Width of the batch-size scan.
        scan: Crops per step of the scan and the length of each run as a multiple of ``steps``.
    """

    widths: Sequence[int]
    depth: int
    context: int
    batch: int
    steps: int
    lr: float
    lr_power: float
    decayed: Sequence[int]
    linear: Sequence[int]
    shorter: Sequence[int]
    longer: Sequence[int]
    scanned: int
    scan: Sequence[tuple[int, float]]

    def rate(self, width: int, batch: int | None = None) -> float:
        """Return the peak learning rate of a width, in proportion to the root of the batch size."""
        root = math.sqrt((batch or self.batch) / self.batch)
        return self.lr * (width / self.widths[0]) ** self.lr_power * root


SCALES = {
    "cpu": Scale(
        widths=(12, 20, 32, 48, 76, 120),
        depth=2,
        context=64,
        batch=16,
        steps=1000,
        lr=2.4e-2,
        lr_power=-0.6,
        decayed=(12, 32, 76),
        linear=(20, 48),
        shorter=(12, 20, 32, 48, 76),
        longer=(20,),
        scanned=32,
        scan=((4, 2.5), (8, 1.5), (32, 0.75), (64, 0.5)),
    ),
    # Eight sizes over three decades, as far as 10 MB of text go without being read twice.
    "gpu": Scale(
        widths=(16, 32, 48, 80, 128, 208, 336, 512),
        depth=2,
        context=128,
        batch=16,
        steps=2000,
        lr=2.1e-2,
        lr_power=-0.6,
        decayed=(16, 48, 128, 336),
        linear=(32, 80, 208),
        shorter=(16, 32, 48, 80, 128, 208),
        longer=(),
        scanned=80,
        scan=((2, 3.0), (4, 2.0), (8, 1.5), (32, 0.5), (64, 0.25)),
    ),
}


def recipes(scale: Scale) -> list[Recipe]:
    """Return the runs of a scale in the order in which they are trained: small models lend to larger ones."""

    def one(part: str, width: int, schedule: str, length: float = 1.0, batch: int | None = None) -> Recipe:
        crops = batch or scale.batch
        return Recipe(part, width, schedule, round(length * scale.steps), crops, scale.rate(width, crops))

    return [
        *(one("ladder", w, "cosine") for w in scale.widths),
        *(one("ladder", w, "constant") for w in scale.widths),
        *(one("batch", scale.scanned, "constant", length, batch) for batch, length in scale.scan),
        *(one("schedule", w, "wsd") for w in scale.decayed),
        *(one("schedule", w, "linear") for w in scale.linear),
        *(one("length", w, "cosine", 1.0 / 3.0) for w in scale.shorter),
        *(one("length", w, "cosine", 2.0) for w in scale.longer),
    ]
