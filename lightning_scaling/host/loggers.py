"""What a logger takes beside numbers, and how each of the four that most runs use wants it.

A logger is known by the name of its class or of one it derives from, because neither of the two Lightning packages nor
the libraries behind the loggers are imported here. Any other logger gets the numbers only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray

#: Longest text that a tag of MLflow takes, in characters.
_TAG = 5000

Facts = Mapping[str, str | int | float]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that has been drawn.

    Args:
        png: It as the contents of a PNG file.
        pixels: It as red, green and blue, shape (height, width, 3), whole numbers from 0 to 255.
        step: The step that it shows [steps].
    """

    png: bytes
    pixels: NDArray[Any]
    step: int


class Writer:
    """Writes into a logger; this one into a logger of any kind, which gets numbers and nothing else.

    Args:
        logger: The logger.

    Attributes:
        shows: Whether the logger shows pictures.
    """

    shows = False

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers at a step."""
        self._logger.log_metrics(dict(values), step=step)

    def facts(self, facts: Facts, step: int) -> None:
        """Write what a run begins with, where the logger keeps such facts beside the user's hyper-parameters."""

    def closing(self, values: Mapping[str, float], words: tuple[str, str], step: int) -> None:
        """Write what became of a run: numbers, and a text with its name."""
        self.numbers(values, step)

    def picture(self, name: str, picture: Picture, step: int) -> None:
        """Write a picture."""

    def _named(self, name: str) -> str:
        """Return a name with the prefix that the user has given to the logger, as Lightning writes it."""
        prefix = getattr(self._logger, "_prefix", "")
        return f"{prefix}{self._logger.LOGGER_JOIN_CHAR}{name}" if prefix else name


class CSVWriter(Writer):
    """Lightning's CSVLogger: facts go into ``hparams.yaml``, beside the user's."""

    def facts(self, facts: Facts, step: int) -> None:
        """Write what a run begins with."""
        self._logger.log_hyperparams(dict(facts))


class TensorBoardWriter(Writer):
    """Lightning's TensorBoardLogger: words go under Text.

    Not under HParams: that takes one set per run, which is the user's, and Lightning writes a metric along with it.
    """

    shows = True

    def facts(self, facts: Facts, step: int) -> None:
        """Write what a run begins with, as a table."""
        rows = [f"| {name} | {value} |" for name, value in facts.items()]
        text = "\n".join(["| | |", "|---|---|", *rows])
        self._logger.experiment.add_text(self._named(f"{_group(facts)}/run"), text, step)

    def closing(self, values: Mapping[str, float], words: tuple[str, str], step: int) -> None:
        """Write what became of a run, as scalars and a text in columns."""
        super().closing(values, words, step)
        name, text = words
        columns = "\n".join(f"    {line}" for line in text.splitlines())  # to Markdown: as it stands
        self._logger.experiment.add_text(self._named(name), columns, step)

    def picture(self, name: str, picture: Picture, step: int) -> None:
        """Write a picture under Images."""
        self._logger.experiment.add_image(self._named(name), picture.pixels, step, dataformats="HWC")


class WandbWriter(Writer):
    """Lightning's WandbLogger: facts go into the run's config, what became of it into its summary.

    W&B fills one row at a time and counts the rows. Who logs with ``step=`` drives that count, and what he logs for a
    step is lost once the count is past it. So where the count keeps pace with the steps, somebody writes a row at
    nearly every step: ours joins the one that is being filled, and the count stays as it is. Where it does not, ours is
    a row of its own, as Lightning writes them.
    """

    shows = True

    def __init__(self, logger: Any) -> None:
        super().__init__(logger)
        self._joined: int | None = None  # the row that ours has joined last, by W&B's count
        self._step: int | None = None  # and the step that it was of

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers at a step."""
        self._write(values, step)

    def facts(self, facts: Facts, step: int) -> None:
        """Write what a run begins with."""
        self._logger.log_hyperparams(dict(facts))

    def closing(self, values: Mapping[str, float], words: tuple[str, str], step: int) -> None:
        """Write what became of a run: not into the history, for a curve of one point says nothing."""
        name, text = words
        self._logger.experiment.summary.update(
            {self._named(key): value for key, value in {**values, name: text}.items()}
        )

    def picture(self, name: str, picture: Picture, step: int) -> None:
        """Write a picture."""
        wandb = sys.modules["wandb"]  # the logger has imported it
        with _as_file(picture) as path:
            self._write({name: wandb.Image(str(path))}, step)

    def _write(self, values: Mapping[str, Any], step: int) -> None:
        run = self._logger.experiment
        count = run.step  # a run that is switched off has none
        follows_tensorboard = getattr(self._logger, "_wandb_init", {}).get("sync_tensorboard")
        if not isinstance(count, int) or count < step or step == 0 or follows_tensorboard:
            self._logger.log_metrics(dict(values), step=step)
            return
        row = {self._named(name): value for name, value in values.items()} | {"trainer/global_step": step}
        if count != self._joined or step == self._step:
            self._joined, self._step = count, step
            run.log(row, commit=False)
        else:  # nobody has gone on from the row that ours has joined
            run.log(row, step=count + 1, commit=True)


class MLFlowWriter(Writer):
    """Lightning's MLFlowLogger: facts go into the parameters, what became of a run into metrics and a tag."""

    shows = True

    def facts(self, facts: Facts, step: int) -> None:
        """Write what a run begins with. A parameter never changes: one that a resumed run has stays as it is."""
        run = self._logger.experiment.get_run(self._logger.run_id)
        self._logger.log_hyperparams({name: value for name, value in facts.items() if name not in run.data.params})

    def closing(self, values: Mapping[str, float], words: tuple[str, str], step: int) -> None:
        """Write what became of a run."""
        super().closing(values, words, step)
        name, text = words
        self._logger.experiment.set_tag(self._logger.run_id, name, text[:_TAG])

    def picture(self, name: str, picture: Picture, step: int) -> None:
        """Write a picture as an artifact, one file for each."""
        with _as_file(picture) as path:
            self._logger.experiment.log_artifact(self._logger.run_id, str(path), _group([name]))


_KINDS: dict[str, type[Writer]] = {
    "CSVLogger": CSVWriter,
    "TensorBoardLogger": TensorBoardWriter,
    "WandbLogger": WandbWriter,
    "MLFlowLogger": MLFlowWriter,
}


def writer_of(logger: Any) -> Writer:
    """Return what writes into a logger.

    Example:
        >>> class MLFlowLogger: ...
        >>> type(writer_of(MLFlowLogger())).__name__, type(writer_of(object())).__name__
        ('MLFlowWriter', 'Writer')
    """
    names = [kind.__name__ for kind in type(logger).__mro__]
    return next((_KINDS[name] for name in names if name in _KINDS), Writer)(logger)


def _group(names: Any) -> str:
    """Return the part before the last slash of the first name."""
    return str(next(iter(names))).rpartition("/")[0]


@contextmanager
def _as_file(picture: Picture) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"forecast_at_step_{picture.step}.png"
        path.write_bytes(picture.png)
        yield path
