"""ScalingLawMonitor: the callback that watches a Trainer's losses, says where they will land, and can stop the run."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lightning_utilities.core.rank_zero import rank_zero_info

from lightning_scaling._lightning import callback_base
from lightning_scaling.advice import Advice, StopRule
from lightning_scaling.alarm import Departure
from lightning_scaling.alternatives import Alternative
from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.forecast import Forecast
from lightning_scaling.host.series import one_word
from lightning_scaling.host.session import Session, all_begin_at, in_step
from lightning_scaling.host.settings import Settings, require_held_out
from lightning_scaling.ledger import ForecastRecord
from lightning_scaling.store import RunStore

if TYPE_CHECKING:
    from lightning.pytorch import Callback as LightningCallback
else:
    LightningCallback = callback_base()

__all__ = ["ScalingLawMonitor"]

_VERSION = 1
_KEY = "ScalingLawMonitor"


class ScalingLawMonitor(LightningCallback):
    r"""Watch the training loss, a validation loss or both, forecast where they end, and stop the run if told when to.

    The law is :math:`L(S) = E + (S_c/S)^{\alpha_S}`, what L(N, S) of Kaplan et al. 2020 (arXiv:2001.08361) says of one
    run, with the learning rates ahead taken into account. At a bounded number of moments the losses are fetched from
    their device and the law is fitted anew; between them a step only keeps a reference and waits for nothing. Each
    time these are renewed:

    - the progress bar: ``end 1.873±0.021``, once there is something to say;
    - the loggers, under ``scaling/``: ``final_loss`` and ``converged_loss`` (each with ``_low`` and ``_high``),
      ``remaining_gain``, ``alpha_S`` and ``loss``, the expected loss at present; all of them from the first record on,
      NaN while not known;
    - the loggers once more, with what the run begins with and what became of it, where they keep such things;
    - the same numbers, once known, in ``trainer.callback_metrics``, where ``ModelCheckpoint`` and
      ``EarlyStopping(..., strict=False)`` find them; to keep the best weights monitor ``scaling/loss``, for a forecast
      of the end can be low early and rise. It is there from about a twentieth of the run on, and ``ModelCheckpoint``
      raises where it looks for it after an earlier validation: let ``every_n_train_steps`` be a tenth of the run;
    - one sentence when the advice changes and at each quarter of the run, there with what it would come to if the
      learning rate fell now (`alternatives`), and at the end a table of the forecasts beside what happened.

    All of this speaks of the loss that ``monitor`` names: the training loss of every optimizer step unless told
    otherwise. A second loss is forecast beside it, without rules: the training loss where a metric is monitored, and
    else a validation loss, if one is logged under a usual name (``val_loss``, ``val/loss``, ``valid_loss``,
    ``eval_loss``, …). Its forecast is in `forecasts`, in the sentences, and in loggers and ``callback_metrics`` under
    ``scaling/val_loss/`` or ``scaling/train_loss/``.

    A logged metric is taken when it is renewed, after a validation or an epoch, at most once per optimizer step, and
    forecast from some ten values on. It has to be a loss, which is better when smaller. One that is logged for single
    training steps is taken once per epoch, with the noise of its step: log it with ``on_epoch=True``. Across ranks it
    is what rank 0 sees, the mean only if it was logged with ``sync_dist=True``.

    The planned end, the learning rates ahead, N and the batch size are read off the Trainer; each can be given instead.
    An end by ``max_time`` is estimated from the pace of the steps, and renewed with the forecasts. The batch size is
    looked at each time the losses are fetched. Across ranks the training loss is the mean over all of them, and rank 0
    does the thinking: `forecast`, `advice` and `history` are found there.

    A stop acts after a fifth of the run at the earliest, if it stands at a second look, and on a learning rate ahead
    that is known; `Diverged` acts at once on NaN, of the training loss too where a metric is monitored, and at
    the second look otherwise. It is agreed by all ranks, waits for ``min_steps`` and ``min_epochs``, and does not bind
    a run that is resumed on purpose: there the reason that ended it advises only. A checkpoint of before the stop knows
    nothing of it, so a new process that goes on from it needs ``stop=None``; this monitor itself remembers.

    Once training has begun nothing here raises: what fails is warned of once, and training goes on.

    Args:
        monitor: Key of a logged loss in ``trainer.callback_metrics``, such as ``val_loss``; default: the training loss
            of every step.
        stop: A rule or several that may end the run; none: advice only.
        advise: A rule or several that are told of, in the sentences and in `advice`, and never stop the run, such as
            `ComputeEfficient`. What those of ``stop`` say comes first.
        horizon: Planned end of the run [steps]; default: what the Trainer plans.
        lr_schedule: Learning rate of steps 1..horizon [any unit]; default: found by replaying a copy of the schedulers.
        N: Non-embedding parameters; default: counted.
        tokens_per_step: Batch size [tokens per optimizer step] over ranks and accumulation; default: read off the
            batches, in samples where these are no tokens, which a store keeps apart.
        level: Probability that an interval holds its number [1].
        refits: Most fits over a run of known length: half of them evenly spread, the rest at steps of equal ratio
            before the first of those, in a short run fewer. Losses that break away are looked at sooner. Of a logged
            metric so many first values are each followed by a fit as well.
        name: Prefix of the metrics; tells two monitors of one Trainer apart. Where several of one name watch different
            losses, the metrics of one that watches ``val_loss`` are under ``scaling_val_loss/``, and likewise with any
            key. Two that watch the same loss need a name each: Lightning refuses two callbacks of one ``state_key``.
        verbose: Whether to print the sentences and the closing table; that a run is being stopped is said in any case.
        price_per_hour: Price of an hour of all machines together [any money]; with it the quarters of the run also say
            what other ways to go on would cost.
        store: A `RunStore`, or the folder or URL of one, such as ``s3://bucket/runs``. Its finished runs of the same
            loss are read at the start, and those that are kin to this one make its forecasts sharper; the run itself
            is written into it at each forecast, in a thread, and at its end. A store that fails is warned of once.
        tags: What tells this run apart in the store, such as ``{"task": "text"}``.
        figures: Whether TensorBoard, W&B and MLflow get a picture of the curve and its forecasts, under
            ``scaling/forecast``, at each quarter of the run and at its end. It is drawn in a thread, which takes
            matplotlib.
        on_departure: What is called with a `Departure` when a loss leaves its own forecast, beside the sentence and the
            record in the log of ``lightning_scaling`` (a warning; INFO where the loss falls below its forecast). What
            it raises is warned of once.

    Raises:
        TypeError: If an argument is of the wrong kind, such as a ``stop`` that is no rule.
        ValueError: If a number is out of its range, ``monitor`` is one of the callback's own metrics, or
            ``lr_schedule`` has not ``horizon`` entries.

    Example::

        from lightning_scaling import ScalingLawMonitor, TargetUnreachable

        monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.9))
        trainer = Trainer(max_steps=20_000, callbacks=[monitor])
        trainer.fit(model)
        print(monitor.forecast, monitor.advice, monitor.summary(), sep="\n")
    """

    # A plain string where Lightning has a property: it is read for the profiler in every hook of every step.
    state_key: str = _KEY
    _is_guest = False  # of a script that has not asked for it

    def __init__(
        self,
        monitor: str | None = None,
        stop: StopRule | list[StopRule] | None = None,
        *,
        advise: StopRule | list[StopRule] | None = None,
        horizon: int | None = None,
        lr_schedule: list[float] | None = None,
        N: float | None = None,
        tokens_per_step: int | None = None,
        level: float = 0.9,
        refits: int = 40,
        name: str = "scaling",
        verbose: bool = True,
        price_per_hour: float | None = None,
        store: str | RunStore | None = None,
        tags: dict[str, str | int | float | bool] | None = None,
        figures: bool = False,
        on_departure: Callable[[Departure], object] | None = None,
    ) -> None:
        super().__init__()
        self._settings = Settings.of(
            monitor=monitor,
            stop=stop,
            advise=advise,
            horizon=horizon,
            lr_schedule=lr_schedule,
            N=N,
            tokens_per_step=tokens_per_step,
            level=level,
            refits=refits,
            name=name,
            verbose=verbose,
            price_per_hour=price_per_hour,
            store=store,
            tags=tags,
            figures=figures,
            on_departure=on_departure,
        )
        require_held_out(monitor, (*self._settings.rules, *self._settings.advisers))
        if name != "scaling":
            self.state_key = f"{_KEY}[{name}]"
        elif monitor is not None:
            self.state_key = f"{_KEY}[monitor={monitor}]"
        self._session: Session | None = None
        self._restored: Mapping[str, Any] | None = None
        self._active = False  # between the first batch and the end of a fit
        self._has_warned = False
        self._trainer: weakref.ref[Any] | None = None  # that of the session
        self._is_loaded = False  # from a checkpoint for the fit that begins, with or without a state of ours
        self._passes_by = False  # the state that comes next: only weights are wanted of its checkpoint

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what cannot be pickled; a copy belongs to no Trainer yet."""
        return {**self.__dict__, "_trainer": None}

    @property
    def forecast(self) -> Forecast | None:
        """The newest forecast, None before the first."""
        return None if self._session is None else self._session.losses.main.live.forecast

    @property
    def forecasts(self) -> Mapping[str, Forecast]:
        """The newest forecasts of all losses by their names: ``train_loss`` and the key of the logged metric.

        A monitored metric that is itself called ``train_loss`` keeps its name; the loss of every step is
        ``step_loss`` then.
        """
        return {} if self._session is None else self._session.losses.forecasts()

    @property
    def advice(self) -> Advice | None:
        """The newest advice, None before the first forecast; after a stop, the one that stopped the run."""
        return None if self._session is None else self._session.losses.main.live.advice

    @property
    def alarm(self) -> Departure | None:
        """The newest departure of the loss from its own forecast, None where there was none."""
        return None if self._session is None else self._session.losses.main.live.departure

    @property
    def history(self) -> tuple[ForecastRecord, ...]:
        """All forecasts so far, oldest first."""
        return () if self._session is None else self._session.losses.main.live.ledger.records

    @property
    def alternatives(self) -> Mapping[str, Alternative]:
        """What else could be done, as it stood at the last quarter of the run: ``"decay now"`` and ``"longer"``.

        Decaying now is compared where the rate is held at its peak, which a constant schedule does, and WSD before its
        decay. Empty before the first quarter, and where the learning rate ahead is not known.
        """
        return {} if self._session is None else self._session.advisor.alternatives

    @property
    def curve(self) -> LossCurve:
        """The loss so far, in windows; on one rank, asking for it fetches the newest losses."""
        return LossCurve([], []) if self._session is None else self._session.curve()

    def summary(self) -> str:
        """Return the table of the forecasts at 10, 20, … 90 % of the run, beside what happened once it is over."""
        if self._session is not None:
            return self._session.summary()
        return (
            "The run has not begun in this process. Where the Trainer starts others for it (ddp_spawn, ddp_fork, "
            "ddp_notebook), what they know is in trainer.callback_metrics, the loggers and the checkpoints."
        )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take up a run, or go on with it."""
        self._active = False
        if trainer.fast_dev_run:
            return
        state, session, failure = self._known(trainer), None, None
        self._restored, self._is_loaded = None, False
        try:
            session = Session(trainer, pl_module, self._settings_in(trainer), state, rank_zero_info, self._session)
        except Exception as error:
            failure = error
        begin = None if session is None else session.tracker.step
        try:
            # Here no rank waits for one that has no session; later each of them takes part whatever fails.
            if in_step(trainer, self._settings) and not all_begin_at(begin, trainer):
                session, failure = None, failure or RuntimeError("another rank cannot, or is at another step")
        except Exception as error:
            session, failure = None, error
        if session is not None:
            self._session, self._trainer, self._active = session, weakref.ref(trainer), True
        elif failure is not None:
            self._fail(failure)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Note that the training data begins anew."""
        if self._active and self._session is not None:
            session = self._session
            self._guard(lambda: session.epoch_started(trainer))

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        """Keep the loss of a manual ``backward``, in case ``training_step`` does not return it."""
        if self._active and self._session is not None:
            try:
                self._session.tracker.before_backward(trainer, loss)
            except Exception as error:
                self._fail(error)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Take the learning rate that is about to be used; at the end of the batch it is the next one's."""
        if self._active and self._session is not None:
            try:
                self._session.tracker.before_optimizer_step(optimizer)
            except Exception as error:
                self._fail(error)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Take the loss of a batch, and do what is due after an optimizer step."""
        if self._active and self._session is not None:
            session = self._session
            try:
                stepped = session.tracker.batch_end(trainer, outputs)
            except Exception as error:
                self._fail(error)
                stepped = session.across_ranks and session.count(trainer, pl_module)
            try:
                if stepped:
                    session.step_ended(trainer, pl_module, batch)
            except Exception as error:
                self._fail(error)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Note what was logged before the validation."""
        if self._active and self._session is not None:
            session = self._session
            self._guard(lambda: session.validation_started(trainer))

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the metric that the validation has renewed; its value stays where it is."""
        if self._active and self._session is not None:
            session = self._session
            self._guard(lambda: session.validation_ended(trainer))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Take an epoch's metric; look at the plan again, and at a stop that ``min_epochs`` has put off."""
        if self._active and self._session is not None:
            session = self._session
            self._guard(lambda: session.epoch_ended(trainer, pl_module))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Say how the forecasts did."""
        self._finish(trainer, together=True)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Say how the forecasts did up to where the run was cut off; other ranks may be anywhere."""
        self._finish(trainer, together=False)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as ``torch.load(weights_only=True)`` wants them."""
        if self._session is None:
            return dict(self._restored or {})
        try:
            return {"version": _VERSION, **self._session.state_dict()}
        except Exception as error:
            self._fail(error)
            return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state for the start of training; one of another version or kind is ignored with a warning."""
        if self._passes_by:
            self._passes_by = False
            return
        state: Any = state_dict  # a foreign checkpoint may hold anything
        version = state.get("version") if isinstance(state, Mapping) else None
        if version == _VERSION:
            self._restored = state
        else:
            found = repr(version) if isinstance(state, Mapping) else f"a {type(state).__name__}"
            say_warning(
                f"Expected a ScalingLawMonitor state of version {_VERSION} in the checkpoint, got {found}, so it is "
                "ignored and the curve begins at the present step."
            )

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Take the state of a monitor that watched another loss, where there is one and nobody else goes on with it.

        A checkpoint whose weights are validated, tested or predicted with is no run to go on from.
        """
        states = checkpoint.get("callbacks") or {}
        if not trainer.training:
            self._passes_by = bool(states.get(self.state_key))  # Lightning hands it over next, without saying what for
            return
        self._is_loaded, self._passes_by, self._restored = True, False, None
        if self.state_key in states or self._settings.name != "scaling" or self._is_guest:
            return
        claimed = {callback.state_key for callback in trainer.callbacks}
        left = [key for key in map(str, states) if key == _KEY or key.startswith(f"{_KEY}[monitor=")]
        if len(left) == 1 and left[0] not in claimed and isinstance(states[left[0]], dict):
            self.load_state_dict(states[left[0]])

    def _known(self, trainer: Any) -> Mapping[str, Any]:
        """Return the state to go on from: that of the checkpoint, or of the last fit if this Trainer goes on with it.

        Otherwise nothing tells whose steps were done before this fit.
        """
        if self._restored is not None or self._session is None:
            return self._restored or {}
        if self._trainer is not None and self._trainer() is trainer and not self._is_loaded:
            return self.state_dict()
        if trainer.global_step > 0:
            say_warning(
                "Expected a state of ScalingLawMonitor in the checkpoint that this run goes on from, got none, and "
                "what it knows may be another run's, so the curve begins at the present step."
            )
        return {}

    def _settings_in(self, trainer: Any) -> Settings:
        """Return the settings, with a name of its own where another monitor of this Trainer has the same."""
        mine = self._settings
        others = [c for c in trainer.callbacks if isinstance(c, ScalingLawMonitor) and c is not self]
        if mine.monitor is None or not any(c._settings.name == mine.name and not c._is_guest for c in others):
            return mine
        return replace(mine, name=f"{mine.name}_{one_word(mine.monitor)}")

    def _finish(self, trainer: Any, *, together: bool) -> None:
        if self._active and self._session is not None:
            session = self._session
            self._guard(lambda: session.finish(trainer, together=together))
        self._active = False

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Go quiet, but keep what is known."""
        if self._session is not None and self._session.across_ranks:
            self._session.mute()  # other ranks wait for this one in every reduction
        else:
            self._active = False
        if not self._has_warned:
            self._has_warned = True
            say_warning(
                f"Expected to follow the loss, got {type(error).__name__}: {error}, so ScalingLawMonitor is quiet from "
                "here on; training is not affected. Please report this."
            )
