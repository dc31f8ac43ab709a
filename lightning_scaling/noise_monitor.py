"""GradientNoiseMonitor: the callback that measures the gradient noise scale of a Trainer's run now and then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import Parameter

from lightning_scaling._lightning import callback_base
from lightning_scaling.batch_size.noise_scale import NoiseScale
from lightning_scaling.batch_size.trade import CAVEATS, BatchTrade, batch_trade
from lightning_scaling.errors import say_warning
from lightning_scaling.gradients.norms import BackwardNorms, ExampleNorms, NormSource
from lightning_scaling.gradients.samples import NoiseSamples
from lightning_scaling.host.batch import BatchSize, batch_size, count_examples, data_ranks
from lightning_scaling.host.outlets import Outlets
from lightning_scaling.host.steps import logged_step

if TYPE_CHECKING:
    from lightning.pytorch import Callback as LightningCallback
else:
    LightningCallback = callback_base()

__all__ = ["GradientNoiseMonitor"]

_VERSION = 1
_SOURCES = ("auto", "batches", "examples")
#: Samples between two fetches.
_SLOTS = 16


class GradientNoiseMonitor(LightningCallback):
    r"""Measure the gradient noise scale of a run now and then: B_simple = tr(Σ)/|G|².

    It is a heuristic for the critical batch size; `lightning_scaling.batch_size.trade.CAVEATS` says how much of one.

    Every ``every_n_steps`` optimizer steps squared gradient norms are taken at two batch sizes; they stay on their
    device and are fetched 16 at a time. In between, nothing is hooked to the model. The two batch sizes are

    - ``source="batches"``: one backward pass of one rank, and the whole step. It needs several ranks under
      ``DistributedDataParallel`` or ``accumulate_grad_batches`` above 1;
    - ``source="examples"``: one example, and the whole step, seen by the weights of the normalisation layers only
      (``LayerNorm``, ``RMSNorm`` and classes of other libraries called so). The inputs of these layers must have the
      examples in their first or second dimension, and the loss must be the mean over examples that count the same. A
      model under ``torch.compile`` shows its inner layers to nobody; use batches there;
    - ``source="auto"``: batches where there are several, examples else.

    Metrics in loggers and ``trainer.callback_metrics``: ``scaling/B_simple`` with ``_low`` and ``_high``,
    ``scaling/G_squared`` and ``scaling/trace_Sigma``; NaN (in callback_metrics: absent) while not known. All counts are
    in the unit of the batch: tokens where its inputs are whole numbers of shape (batch, time), samples else.

    It measures automatic optimization with one optimizer. Manual optimization, and strategies that shard the gradient
    (FSDP, DeepSpeed, tensor parallel), are declined with a warning. Every rank needs the callback. Once training has
    begun nothing here raises: what fails is warned of once, and training goes on.

    Args:
        every_n_steps: Optimizer steps from one sample to the next [steps].
        source: Where the two batch sizes come from: ``auto``, ``batches`` or ``examples``.
        window: Time scale of the averages [samples]; times ``every_n_steps`` it is in steps.
        level: Probability that the interval holds its number [1].
        name: Prefix of the metrics.
        verbose: Whether to print what was found at the end of the fit.

    Attributes:
        noise_scale: The averages and their ratio; new in each fit unless it goes on from a checkpoint.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of its range or a name not known.

    Example::

        from lightning_scaling.noise_monitor import GradientNoiseMonitor

        noise = GradientNoiseMonitor(every_n_steps=20)
        Trainer(max_steps=20_000, accumulate_grad_batches=4, callbacks=[noise]).fit(model, loader)
        print(noise.noise_scale, noise.advice(factor=2.0), sep="\n")
    """

    # A plain string where Lightning has a property: it is read for the profiler in every hook of every step.
    state_key: str = "GradientNoiseMonitor"

    def __init__(
        self,
        every_n_steps: int = 20,
        *,
        source: str = "auto",
        window: float = 100.0,
        level: float = 0.9,
        name: str = "scaling",
        verbose: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(every_n_steps, bool) or not isinstance(every_n_steps, int):
            raise TypeError(f"Expected every_n_steps to be a whole number, got {every_n_steps!r}. Give e.g. 20.")
        if every_n_steps < 1:
            raise ValueError(f"Expected every_n_steps >= 1, got {every_n_steps}. Give e.g. 20.")
        if source not in _SOURCES:
            raise ValueError(f"Expected source to be one of {', '.join(_SOURCES)}, got {source!r}. Give e.g. 'auto'.")
        for what, value in (("window", window), ("level", level)):
            if isinstance(value, bool) or not isinstance(value, (int, float)):  # LightningCLI hands over anything
                raise TypeError(f"Expected {what} to be a number, got {value!r}. Leave it out for the usual one.")
        if not name:
            raise ValueError(f"Expected a name, got {name!r}. It goes before the names of the metrics.")
        self.noise_scale = NoiseScale(window=float(window), level=float(level))
        self._every, self._asked, self._verbose = every_n_steps, source, verbose
        if name != "scaling":
            self.state_key = f"GradientNoiseMonitor[{name}]"
        self._restored: Mapping[str, Any] | None = None
        self._passes_by = False
        self._source: NormSource | None = None
        self._samples: NoiseSamples | None = None
        self._outlets = Outlets(name, rank_zero_info)
        self._step_size: BatchSize | None = None
        self._measures = False  # whether the present step is measured
        self._failed = False
        self._ranks = self._accumulate = 1
        self._size = 0.0  # of the present batch on this rank
        self._step = 0

    @property
    def batch_size(self) -> BatchSize | None:
        """What one optimizer step sees, over ranks and accumulated batches; None before the first sample."""
        return self._step_size

    def advice(self, factor: float = 2.0) -> str:
        """Answer in words whether a batch ``factor`` times as large would save time, and what it would cost."""
        trade = self.trade(factor)
        return str(self.noise_scale) if trade is None else f"{trade} {CAVEATS}"

    def trade(self, factor: float = 2.0) -> BatchTrade | None:
        """Return steps and examples at a batch ``factor`` times as large as shares of those now.

        Returns:
            The trade, None while B_simple is not known.
        """
        B_simple = self.noise_scale.B_simple
        if self._step_size is None or self.noise_scale.why_unknown:
            return None
        return batch_trade(self._step_size.per_step, B_simple, factor=factor, unit=self._step_size.unit)

    # Hooks ------------------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take up a run, or go on with it."""
        self._source = self._samples = self._step_size = None
        self._measures = self._failed = False
        if trainer.fast_dev_run:
            return
        self._guard(lambda: self._begin(trainer, pl_module))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Where a step begins, decide whether it is measured."""
        if self._source is None:
            return
        if batch_idx % trainer.accumulate_grad_batches == 0:  # where Lightning zeroes the gradients
            self._step = trainer.global_step
            self._measures = not self._failed and self._step % self._every == 0
            if self._measures:
                self._guard(lambda: self._start_step(trainer, pl_module))
        if self._measures:
            self._guard(lambda: self._start_batch(batch))

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Hook into the gradients to come."""
        if self._measures and self._source is not None:
            self._guard(self._source.before_backward)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        """Take the norms of a backward pass."""
        if self._measures and self._source is not None:
            source, size = self._source, self._size
            self._guard(lambda: source.after_backward(size, _scale(trainer)))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Take the norm of the whole step, before it is clipped."""
        if self._measures:
            self._guard(lambda: self._end_step(trainer, optimizer))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Fetch the samples, at steps that are the same on every rank whatever has failed."""
        step = trainer.global_step
        if self._samples is None or step == self._step:
            return
        self._step, self._measures = step, False
        if step % (self._every * _SLOTS) == 0:
            samples = self._samples
            self._guard(lambda: samples.flush(wait=False), always=True)
            self._guard(lambda: self._tell(trainer, logged_step(trainer)))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Fetch what is left, and say what was found."""
        samples = self._samples
        if samples is None:
            return
        self._guard(samples.flush, always=True)
        self._guard(lambda: self._close(trainer))

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave nothing hooked; other ranks may be anywhere."""
        if self._source is not None:
            self._guard(self._source.stop)
        if self._samples is not None:
            self._samples.discard()
        self._source = self._samples = None

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists; samples not yet fetched are left out."""
        return {"version": _VERSION, "noise_scale": self.noise_scale.state_dict()}

    def load_state_dict(self, state_dict: Any) -> None:
        """Keep a state for the start of training; one of another version or kind is ignored with a warning."""
        passes_by, self._passes_by = self._passes_by, False
        if passes_by:
            return
        version = state_dict.get("version") if isinstance(state_dict, dict) else type(state_dict).__name__
        if version == _VERSION:
            self._restored = state_dict
        else:
            say_warning(
                f"Expected a GradientNoiseMonitor state of version {_VERSION} in the checkpoint, got {version!r}, so "
                "it is ignored and the averages begin at the present step."
            )

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Pass by a checkpoint whose weights are validated, tested or predicted with: it is no run to go on from."""
        self._restored = None
        self._passes_by = not trainer.training and self.state_key in (checkpoint.get("callbacks") or {})

    # Inside -----------------------------------------------------------------------------------------------------------

    def _begin(self, trainer: Any, pl_module: Any) -> None:
        self.noise_scale = self._restore()
        if (why := self._why_not(trainer, pl_module)) is not None:
            if trainer.is_global_zero:
                say_warning(
                    f"Expected a run whose gradients can be compared, got {why}, so no noise scale is measured."
                )
            return
        self._ranks, self._step = data_ranks(trainer), trainer.global_step
        self._source = BackwardNorms() if self._takes_batches(trainer) else ExampleNorms()
        together = trainer.world_size > 1 and dist.is_available() and dist.is_initialized()
        self._samples = NoiseSamples(
            self.noise_scale, slots=_SLOTS, across_ranks=together, device=trainer.strategy.root_device
        )

    def _restore(self) -> NoiseScale:
        fresh = NoiseScale(window=self.noise_scale.window, level=self.noise_scale.level)
        state, self._restored = self._restored, None
        if state is None:
            return fresh
        try:
            return NoiseScale.from_state({**state["noise_scale"], "window": fresh.window, "level": fresh.level})
        except Exception as error:
            say_warning(
                f"Expected a readable state of GradientNoiseMonitor, got {error!r}, so its averages begin anew."
            )
            return fresh

    def _why_not(self, trainer: Any, pl_module: Any) -> str | None:
        """Return what is in the way of measuring, None where nothing is."""
        strategy = trainer.strategy
        if not pl_module.automatic_optimization:
            return "manual optimization"
        if len(trainer.optimizers) != 1:
            return f"{len(trainer.optimizers)} optimizers"
        whole = trainer.world_size == 1 or isinstance(strategy.model, DistributedDataParallel)
        if not whole or getattr(strategy, "handles_gradient_accumulation", False):
            return f"{type(strategy).__name__}, which does not leave whole gradients on every rank"
        if self._asked == "batches" and not _has_batches(trainer):
            return "source='batches' with one rank and one batch per step"
        if not self._takes_batches(trainer) and not ExampleNorms.sees(pl_module):
            return "one batch per step and a model without normalisation layers"
        return None

    def _takes_batches(self, trainer: Any) -> bool:
        return self._asked == "batches" or (self._asked == "auto" and _has_batches(trainer))

    def _start_step(self, trainer: Any, pl_module: Any) -> None:
        assert self._source is not None
        self._accumulate = trainer.accumulate_grad_batches
        self._source.start(pl_module, _trained(trainer.optimizers[0]))

    def _start_batch(self, batch: Any) -> None:
        assert self._source is not None
        found, n = batch_size(batch), count_examples(batch)
        if found is None or not n:
            raise ValueError("Expected a batch that holds a tensor with a first dimension, got none.")
        self._size = float(found.per_step)
        self._step_size = batch_size(batch, accumulate=self._accumulate, ranks=self._ranks)
        self.noise_scale.unit = found.unit
        self._source.before_forward(n)

    def _end_step(self, trainer: Any, optimizer: Any) -> None:
        assert self._source is not None
        assert self._samples is not None
        self._measures = False
        # Optimizers that unscale by themselves, such as the fused ones, have not done so yet.
        scale = _scale(trainer) if getattr(optimizer, "_step_supports_amp_scaling", False) else 1.0
        sample = None
        try:
            sample = self._source.finish(accumulate=self._accumulate, ranks=self._ranks, scale=scale)
        finally:
            self._samples.put(sample)  # ranks count on each other's places

    def _tell(self, trainer: Any, logged_at: int) -> None:
        found = self.noise_scale.B_simple
        values = {
            "B_simple": float(found.mid),
            "B_simple_low": float(found.low),
            "B_simple_high": float(found.high),
            "G_squared": self.noise_scale.G_squared,
            "trace_Sigma": self.noise_scale.trace_Sigma,
        }
        self._outlets.offer(trainer, values)
        if trainer.is_global_zero:
            self._outlets.log(trainer, values, logged_at)

    def _close(self, trainer: Any) -> None:
        self._tell(trainer, max(logged_step(trainer) - 1, 0))
        if self._verbose:
            self._outlets.tell(f"GradientNoiseMonitor: {self.noise_scale}. {self.advice()}")

    def _guard(self, work: Callable[[], None], *, always: bool = False) -> None:
        """Do something that must not raise; after a failure only what other ranks wait for is done."""
        if self._failed and not always:
            return
        try:
            work()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._measures = False
        if self._source is not None:
            self._source.stop()
        if self._failed:
            return
        self._failed = True
        say_warning(
            f"Expected to measure gradient norms, got {type(error).__name__}: {error}, so GradientNoiseMonitor is "
            "quiet from here on; training is not affected."
        )


def _has_batches(trainer: Any) -> bool:
    """Return whether a step is the mean of several backward passes, or may become so."""
    scheduled = any(hasattr(callback, "get_accumulate_grad_batches") for callback in trainer.callbacks)
    return data_ranks(trainer) > 1 or trainer.accumulate_grad_batches > 1 or scheduled


def _trained(optimizer: Any) -> list[Parameter]:
    """Return the parameters whose gradients the optimizer zeroes and uses; others may pile up."""
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]


def _scale(trainer: Any) -> Tensor | float:
    """Return what the loss is multiplied by, under fp16; no waiting."""
    scale = getattr(getattr(trainer.precision_plugin, "scaler", None), "_scale", None)
    return 1.0 if scale is None else scale.detach().clone()  # changed in place after the step
