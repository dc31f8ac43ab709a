"""LC-PFN as a method of the benchmark: a transformer that read curves of Domhan's prior and continues a new one.

    pip install --no-deps --ignore-requires-python lcpfn    # the authors' package; it pins old versions
    python -m benchmarks.lc_pfn train --out WEIGHTS         # about 25 minutes on one core
    python benchmarks/accuracy.py --curves DIR --lc-pfn WEIGHTS

Source: Adriaensen, Rakotoarison, Müller & Hutter 2023, arXiv:2310.20447. The authors trained a model of 27 million
parameters on 10 million curves; this one is their code (prior, model, loss, training loop) at a size that one core
trains in minutes, and is called `lc-pfn-small` wherever it is shown. It knows no learning rate, and its intervals are
those of one more noisy point.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import io
import math
import random
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from benchmarks.curves import TARGET_SHARE, Task
from benchmarks.predictions import N_QUANTILES, PROBABILITIES, Prediction

Array = NDArray[np.float64]

NAME = "lc-pfn-small"
MAX_WINDOWS = 100

# A loss as high as this is near 4 times the first one.
_EDGE = 1e-3
# Rounding of a ratio must not move a step across the edge of a window.
_ON_THE_EDGE = 1e-9

# Steps of an epoch in the authors' training loop.
_STEPS_PER_EPOCH = 100


@dataclass(frozen=True)
class Recipe:
    """What the weights were trained with; saved beside them.

    Attributes:
        emsize: Width of the transformer, a multiple of 128 (the authors take one head for each 128).
        n_layers: Layers.
        n_borders: Buckets of the predicted distribution.
        epochs: Epochs of 100 batches.
        batch: Curves of a batch.
        lr: Peak learning rate; warm-up over a quarter of the epochs, then a cosine.
        seed: Seed of the curves and of the first weights.
    """

    emsize: int = 128
    n_layers: int = 3
    n_borders: int = 1000
    epochs: int = 65
    batch: int = 25
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.emsize < 128 or self.emsize % 128:
            raise ValueError(f"Expected emsize to be a multiple of 128, got {self.emsize}. Take 128 or 256.")

    @property
    def n_curves(self) -> int:
        """Curves seen in training."""
        return self.epochs * _STEPS_PER_EPOCH * self.batch

    def __str__(self) -> str:
        return (
            f"own training of the authors' code, {self.n_curves} curves, emsize {self.emsize}, {self.n_layers} layers, "
            f"{self.n_borders} buckets, seed {self.seed}"
        )


@dataclass(frozen=True)
class UnitScale:
    r"""The map of positive losses to the rising curves in (0, 1) that LC-PFN reads, and back.

    .. math:: y = \sigma(1 - 2 L / L_1) / \sigma(1)

    A loss of 0 is at 1 and the first loss at 1/e. Source: `lcpfn.utils.pfn_normalize` with the bounds its authors give
    to losses without an upper bound: hard 0 and infinity, soft 0 and the first loss.

    Attributes:
        first: Loss that the curve starts from.

    Example:
        >>> UnitScale(4.0).to_unit(np.array([0.0, 2.0, 4.0])).round(4).tolist()
        [1.0, 0.6839, 0.3679]
    """

    first: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.first) and self.first > 0.0):
            raise ValueError(f"Expected the first loss to be positive, got {self.first:g}. LC-PFN cannot read the run.")

    def to_unit(self, L: Array) -> Array:
        """Return the values LC-PFN reads; the lower the loss the higher."""
        return np.asarray(expit(1.0 - 2.0 * L / self.first) / expit(1.0), dtype=np.float64)

    def to_loss(self, y: Array) -> Array:
        """Return losses; values outside (0, 1), which a noisy point may take, are cut to it."""
        inside = np.clip(y, _EDGE, 1.0)
        return np.asarray(0.5 * self.first * (1.0 - logit(inside * expit(1.0))), dtype=np.float64)


def windows(task: Task) -> tuple[Array, Array, int]:
    """Average the prefix in windows of equal length in steps.

    There are 100 in a run, or as many as it has points at the spacing seen, if these are fewer; they are counted from
    the first that holds a point. LC-PFN was trained on curves that are seen from their start and without gaps.

    Returns:
        Numbers of the windows that hold a point, from 1, shape (n,); mean losses there, shape (n,); number of the
        window in which the run ends.

    Example:
        >>> S = np.arange(1.0, 401.0)
        >>> x, y, n_windows = windows(Task(None, 0.01, S[:8], S[:8], 400, None, 0.0))
        >>> x.tolist(), y.tolist(), n_windows
        ([1.0, 2.0], [2.5, 6.5], 100)
    """
    n_windows = int(np.clip(round(task.T / float(np.median(np.diff(task.S)))), 1, MAX_WINDOWS))
    # A point on the edge of two windows belongs to the earlier one, as the last step of the run to the last.
    at = np.clip(np.ceil(task.S / task.T * n_windows - _ON_THE_EDGE), 1, n_windows).astype(int)
    count = np.bincount(at, minlength=n_windows + 1)
    total = np.bincount(at, weights=task.L, minlength=n_windows + 1)
    x = np.flatnonzero(count)
    unlogged = int(x[0]) - 1
    return x - float(unlogged), total[x] / count[x], n_windows - unlogged


def predict(task: Task, weights: Path) -> Prediction:
    """Forecast the mean of the windows that reach into the last 2 % of the run, by the mean of their quantiles.

    Where a loss is not positive the last value stands in.

    Args:
        task: What is seen of a run.
        weights: File that `train` wrote.

    Raises:
        FileNotFoundError: If the file is not there.
        ModuleNotFoundError: If the package ``lcpfn`` is not installed.
    """
    import torch

    if not task.L.min() > 0.0:
        return Prediction(task.last_value, failed=True)
    model, _ = load(weights)
    seen, L, n_windows = windows(task)
    scale = UnitScale(L[0])
    ends = np.arange(int((1.0 - TARGET_SHARE) * n_windows + _ON_THE_EDGE) + 1, n_windows + 1)
    x = torch.tensor(np.concatenate([seen, ends]), dtype=torch.float32)[:, None, None]
    y = torch.tensor(scale.to_unit(L), dtype=torch.float32)[:, None]
    with torch.no_grad():
        logits = model((x, y), single_eval_pos=len(seen))[:, 0]
        y_ends = torch.stack([model.criterion.icdf(logits, 1.0 - float(p)) for p in PROBABILITIES])
    quantiles = np.maximum.accumulate(scale.to_loss(y_ends.double().numpy()).mean(axis=1))
    return Prediction(float(quantiles[N_QUANTILES // 2]), quantiles)


def describe(weights: Path) -> str:
    """Return the sentence that must stand wherever the scores are shown: these are not the authors' weights.

    Raises:
        FileNotFoundError: If the file is not there.
        ModuleNotFoundError: If the package ``lcpfn`` is not installed.
    """
    _, recipe = load(weights)
    return (
        f"`{NAME}`: LC-PFN (Adriaensen et al. 2023, arXiv:2310.20447), but small: {recipe}. The published weights, a "
        "larger model trained on 10 million curves, were not used and may do better. It is given the mean losses of "
        f"{MAX_WINDOWS} windows of the run and no learning rate."
    )


@cache
def load(weights: Path) -> tuple[Any, Recipe]:
    """Return (model, recipe) that `train` saved.

    Raises:
        FileNotFoundError: If the file is not there.
        ModuleNotFoundError: If the package ``lcpfn`` is not installed.
    """
    if not weights.is_file():
        raise FileNotFoundError(
            f"Expected the weights of {NAME} in {weights}, got no file. Train them: "
            f"python -m benchmarks.lc_pfn train --out {weights}"
        )
    package = _package()
    import torch

    saved = torch.load(weights, weights_only=True)
    recipe = Recipe(**saved["recipe"])

    def no_curves(batch_size: int, *_: object, **__: object) -> tuple[Any, Any, Any]:
        x = torch.linspace(0.0, 1.0, batch_size * MAX_WINDOWS).reshape(MAX_WINDOWS, batch_size)
        return x[..., None], x, x

    with contextlib.redirect_stdout(io.StringIO()):
        # Their training loop for no epochs is their own way to build the model; weights and buckets are then replaced.
        model = _train_lcpfn(package, no_curves, recipe, epochs=0)
    model.load_state_dict(saved["weights"])
    return model, recipe


def train(recipe: Recipe, out: Path) -> None:
    """Train with the authors' loop on curves of their prior and save weights and recipe; one thread, so repeatable."""
    import torch

    package = _package()
    torch.set_num_threads(1)
    random.seed(recipe.seed)
    np.random.seed(recipe.seed)  # noqa: NPY002 the authors' prior draws from the global generator
    torch.manual_seed(recipe.seed)
    curves = package.create_get_batch_func(package.sample_from_prior)
    with contextlib.redirect_stdout(_EpochLines(sys.stdout)):
        model = _train_lcpfn(package, curves, recipe, recipe.epochs)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"recipe": asdict(recipe), "weights": model.state_dict()}, out)


def _train_lcpfn(package: Any, curves: Any, recipe: Recipe, epochs: int) -> Any:
    # The authors' loop replaces builtins.print by a wrapper of its own.
    own_print = builtins.print
    try:
        with warnings.catch_warnings():
            # Deprecations of torch in the authors' code.
            warnings.simplefilter("ignore")
            *_, model, _ = package.train_lcpfn(
                curves,
                seq_len=MAX_WINDOWS,
                emsize=recipe.emsize,
                nlayers=recipe.n_layers,
                num_borders=recipe.n_borders,
                lr=recipe.lr,
                batch_size=recipe.batch,
                epochs=epochs,
            )
    finally:
        builtins.print = own_print
    return model.eval()


class _EpochLines(io.TextIOBase):
    """Lets through one short line for each epoch of the authors' training loop."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if text.startswith("| end of epoch"):
            self.stream.write(text.split("| pos losses")[0].strip("| ") + "\n")
            self.stream.flush()
        return len(text)


@cache
def _package() -> Any:
    """Import the authors' package and bridge two changes of torch since the 1.11 that it pins."""
    path = list(sys.path)
    try:
        import lcpfn
        import lcpfn.layer
        from torch import nn
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Expected the package lcpfn for {NAME}, got none. "
            "Install it: pip install --no-deps --ignore-requires-python lcpfn"
        ) from error
    finally:
        # On import it puts its own folder first, where `utils` and `train` would be found by anyone.
        sys.path[:] = path
    # A star import of torch.nn.modules.transformer brings these no longer.
    for name in ("MultiheadAttention", "Linear", "Dropout", "LayerNorm"):
        setattr(lcpfn.layer, name, getattr(nn, name))
    layer = lcpfn.layer.TransformerEncoderLayer
    forward = layer.forward
    # The encoder now also says whether its mask is causal, which the authors' layer need not know.
    layer.forward = lambda self, *args, is_causal=None, **kwargs: forward(self, *args, **kwargs)
    return lcpfn


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    command = parser.add_subparsers(required=True).add_parser("train", help="train weights")
    command.add_argument("--out", type=Path, required=True, help="file to write", metavar="WEIGHTS")
    for name, default in asdict(Recipe()).items():
        command.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    recipe = Recipe(**options)
    train(recipe, out)
    print(f"Wrote {out}: {recipe}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
