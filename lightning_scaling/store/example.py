"""The store that ships with the package: a ladder of small models on the source of Python's standard library."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from lightning_scaling.errors import StoreError
from lightning_scaling.store.runstore import RunStore

__all__ = ["example_store"]

_FOLDER = "example_store"


def example_store() -> RunStore:
    """Return the store of runs that ships with the package, to try out what a store is good for.

    They are byte-level transformers of six sizes, at several schedules, lengths and batch sizes: ``docs/ladder.md``.
    Do not write into it: copy its files into a folder of your own.

    Raises:
        StoreError: If the package is not installed as files.

    Example:
        >>> store = example_store()
        >>> sizes = {run.N for run in store.runs(tags={"part": "ladder"})}
        >>> len(sizes), all(run.state == "finished" for run in store)
        (6, True)
    """
    folder = files("lightning_scaling").joinpath(_FOLDER)
    if not isinstance(folder, Path):
        raise StoreError("Expected the package as files, got an archive, so install it with pip.")
    return RunStore(folder)
