"""RunStore: a memory of many runs that any number of jobs can write into and read at any time."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import StoreError, say_warning
from lightning_scaling.ledger import ForecastLedger
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.store.place import open_place
from lightning_scaling.store.run import STATES, StoredRun, Tag
from lightning_scaling.store.sheet import SCHEMA, SUFFIX, pack, read_json, unpack
from lightning_scaling.store.writing import new_id, renewed, with_derived

__all__ = ["RunStore"]

T = TypeVar("T")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


class RunStore:
    """The runs of a folder or bucket: one small file each, so that a hundred jobs can share it without a server.

    A run is written by its own job alone, and each writing puts a whole new file in the place of the old one: readers
    see one or the other, and writers never meet. A file that is damaged, of another kind or of a later version of this
    package is skipped, with one warning, and neither changed nor deleted. To join two stores, copy the files of one
    into the other.

    Args:
        url: A folder, or a URL of one that fsspec knows: ``s3://bucket/runs``, ``gs://bucket/runs``, ``memory://runs``.
            A folder that is not there is an empty store; it is created with the first run.

    Raises:
        StoreError: If no store can be there: the path is a file, or no file system is known for the URL or its package
            is not installed.
        TypeError: If `url` is neither text nor a path.

    Example:
        >>> store = RunStore("memory://example/runs")
        >>> curve = LossCurve(S=[10, 100, 1000], L=[6.0, 4.0, 3.0], N=1.0e6)
        >>> run_id = store.add(curve, horizon=1000, tags={"task": "text"}, id="first")
        >>> print(store[run_id])
        first: finished at step 1 000 of 1 000, N = 1e+06, loss 3, task=text
        >>> len(store.runs(tags={"task": "text"})), len(store.runs(tags={"task": "images"}))
        (1, 0)
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        try:
            self._place = open_place(url)
        except TypeError:
            raise
        except NotADirectoryError as error:
            raise StoreError(
                f"Expected a folder or URL of a store, got the file '{os.fspath(url)}', so name the folder it lies in, "
                "or one that is still to be made."
            ) from error
        except Exception as error:
            raise StoreError(
                f"Expected a folder or a URL that fsspec can open, got {url!r} ({type(error).__name__}: {error}), so "
                "name a folder, or install the package of its file system, such as s3fs."
            ) from error
        self._known: dict[str, tuple[Hashable, StoredRun | None]] = {}
        self._warned: set[str] = set()
        self._skipped: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Where the store is; of a local folder, its absolute path."""
        return self._place.url

    def add(
        self,
        curve: LossCurve,
        *,
        horizon: int | None = None,
        lr_schedule: ArrayLike | LRSchedule | None = None,
        tags: Mapping[str, Tag] | None = None,
        finished: bool | None = None,
        forecasts: ForecastLedger | None = None,
        derived: Mapping[str, Any] | None = None,
        id: str | None = None,
    ) -> str:
        """Write a run, or write it again.

        Of a run that is written again, with its `id`, the curve and state are replaced, and of the rest what is given
        here: what is not stays, and so does what a later version of the package has added to its file.

        Args:
            curve: The run so far; more than 700 points are brought to windows, means kept. Its N and B are those of
                the run.
            horizon: Planned last optimizer step, at or after the last step of the curve; None where unknown.
            lr_schedule: Learning rate of steps 1..horizon [any unit], shape (horizon,), or an LRSchedule; None where it
                is not known.
            tags: What tells runs apart: names with text, numbers or True and False. A tag ``name`` begins the new id.
            finished: True for a run that is over, False for one that was stopped before its planned end. None: finished
                if the curve has come to its horizon, else running.
            forecasts: The forecasts made on the way.
            derived: Quantities computed from the run, by name, as JSON values; other names stay.
            id: The run to write again, or the name of a new one: letters, digits, ``.``, ``_`` and ``-``. Default: a
                new unique name.

        Returns:
            The id of the run.

        Raises:
            TypeError: If an argument is of another kind.
            ValueError: If the horizon or the schedule does not fit the curve, as in `forecast`, or a tag, derived value
                or id cannot be stored.
            StoreError: If the place cannot be written to, or a file of this id is there that is no run of this version.
        """
        _refuse_other("curve", curve, LossCurve)
        if forecasts is not None:
            _refuse_other("forecasts", forecasts, ForecastLedger)
        parts: dict[str, str] = {}
        if id is None:
            id = new_id(tags)
        elif _is_id(id):
            parts = self._parts(id) or {}
        else:
            raise ValueError(
                "Expected an id of at most 128 letters, digits, '.', '_' and '-' that begins with one of the first "
                f"two, got {id!r:.200}, so choose another or leave it out."
            )
        self._write(
            id,
            renewed(parts, curve, horizon, lr_schedule, tags, finished=finished, forecasts=forecasts, derived=derived),
        )
        return id

    def derive(self, id: str, name: str, value: Any) -> None:
        """Keep a quantity that was computed from a run that is over; a running one is written by its own job alone.

        Args:
            id: The run.
            name: Name of the quantity; what was kept under it before is replaced.
            value: Its value, as JSON has it. Put a version into it if the way to compute it may change.

        Raises:
            KeyError: If there is no such run.
            ValueError: If the run is running, or the value is not JSON.
            StoreError: If the place cannot be written to.
        """
        parts = self._parts(id)
        if parts is None:
            raise self._missing(id)
        if read_json(parts["state"]) == "running":
            raise ValueError(f"Expected a run that is over, got {id}, which is running, so wait for its end.")
        self._write(id, with_derived(parts, {name: value}))

    def runs(self, tags: Mapping[str, Tag] | None = None, *, state: str | None = None) -> list[StoredRun]:
        """Return the runs, oldest first; files that have not changed since the last time are not read again.

        Args:
            tags: Return only runs that have all of these.
            state: Return only runs in this state: ``finished``, ``stopped`` or ``running``.

        Raises:
            TypeError: If `tags` is no mapping of names to text, numbers or True and False.
            ValueError: If `state` is none of these.
            StoreError: If the place cannot be read.
        """
        if state is not None and state not in STATES:
            raise ValueError(f"Expected state to be one of {', '.join(STATES)}, got {state!r}, so name one of them.")
        _refuse_unfit(tags)
        wanted = set() if tags is None else set(tags.items())
        found = [run for _, run in self._load().values() if run is not None and wanted <= set(run.tags.items())]
        chosen = [run for run in found if state is None or run.state == state]
        return sorted(chosen, key=lambda run: (run.started, run.id))

    def skipped(self) -> dict[str, str]:
        """Return the files that are no run of this version, by name, each with what it is instead; all are left alone.

        Raises:
            StoreError: If the place cannot be read.
        """
        known = self._load()
        return {name: self._skipped.get(name, "") for name in sorted(known) if known[name][1] is None}

    def forget(self, id: str) -> None:
        """Delete a run.

        Raises:
            KeyError: If there is no such run.
            StoreError: If the place cannot be written to, or the file is no run of this version.
        """
        if self._parts(id) is None:
            raise self._missing(id)
        self._reach("deleted from", lambda: self._place.remove(id + SUFFIX))

    def __getitem__(self, id: str) -> StoredRun:
        """Return the run of this id as it is now; KeyError if there is none."""
        parts = self._parts(id)
        if parts is None:
            raise self._missing(id)
        return StoredRun.of(id, parts)

    def __contains__(self, id: object) -> bool:
        return any(run.id == id for run in self.runs())

    def __len__(self) -> int:
        return len(self.runs())

    def __iter__(self) -> Iterator[StoredRun]:
        return iter(self.runs())

    def __repr__(self) -> str:
        return f"RunStore({self.url!r})"

    def __reduce__(self) -> tuple[type[RunStore], tuple[str]]:
        """Travel to another process without the runs that were read."""
        return RunStore, (self.url,)

    # Inside -----------------------------------------------------------------------------------------------------------

    def _load(self) -> dict[str, tuple[Hashable, StoredRun | None]]:
        """Bring what is known up to date with the place, and return it by the names of the files."""
        listed = self._reach("listed at", self._place.list)
        stamps = {name: stamp for name, stamp in listed.items() if name.endswith(SUFFIX)}
        known = {name: self._known[name] for name, s in stamps.items() if name in self._known}
        changed = [name for name, stamp in stamps.items() if name not in known or known[name][0] != stamp]
        contents = self._reach("read from", lambda: self._place.read(changed))
        for name in changed:
            known.pop(name, None)  # deleted meanwhile, if it is not among the contents
        for name, content in contents.items():
            known[name] = (stamps[name], self._read(name, content))
        self._known = known
        return known

    def _read(self, name: str, content: bytes | Exception) -> StoredRun | None:
        """Return the run in a file; None, with a warning, where it is none."""
        try:
            return StoredRun.of(_id_of(name), _parts_of(content))
        except Exception as error:  # no file may keep the others from being read
            self._skipped[name] = str(error)
            if name not in self._warned:
                self._warned.add(name)
                say_warning(
                    f"Expected {name} in {self.url} to be a run of schema {SCHEMA}, got {error}, so it is skipped and "
                    "left as it is."
                )
            return None

    def _parts(self, id: str) -> dict[str, str] | None:
        """Return the parts of a run as they are now, None where there is none of this id.

        Raises:
            StoreError: If the file of this id cannot be read or is no run of this version.
        """
        if not _is_id(id):
            return None
        name = id + SUFFIX
        content = self._reach("read from", lambda: self._place.read([name])).get(name)
        if content is None:
            return None
        try:
            parts = _parts_of(content)
            StoredRun.of(id, parts)
        except Exception as error:
            raise StoreError(
                f"Expected {name} in {self.url} to be a run of schema {SCHEMA}, got {error}, so it is left as it is: "
                "use another id, or see to the file by hand."
            ) from error
        return parts

    def _write(self, id: str, parts: Mapping[str, str]) -> None:
        data = pack(parts)
        self._reach("written to", lambda: self._place.write(id + SUFFIX, data))

    def _reach(self, deed: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except Exception as error:  # each file system has its own
            raise StoreError(
                f"Expected runs to be {deed} {self.url}, got {type(error).__name__}: {error}, so check that the place "
                "exists, that this job may use it, and that it is not full."
            ) from error

    def _missing(self, id: object) -> KeyError:
        return KeyError(f"no run {id!r:.200} in {self.url}")


def _is_id(id: object) -> bool:
    return isinstance(id, str) and _ID.fullmatch(id) is not None


def _id_of(name: str) -> str:
    found = name.removesuffix(SUFFIX)
    if not _is_id(found):
        raise ValueError("a name that is no id")
    return found


def _parts_of(content: bytes | Exception) -> dict[str, str]:
    if isinstance(content, Exception):
        raise ValueError(f"{type(content).__name__}: {content}") from content
    return unpack(content)


def _refuse_unfit(tags: object) -> None:
    """Refuse what no run can have for tags."""
    fit = isinstance(tags, Mapping) and all(isinstance(x, (str, int, float, np.generic)) for x in tags.values())
    if tags is not None and not fit:
        raise TypeError(
            f"Expected tags to be names with one text, number, True or False each, got {tags!r:.80}, so give e.g. "
            '{"task": "text"}, and ask once for each of several values.'
        )


def _refuse_other(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"Expected {name} to be a {kind.__name__}, got {type(value).__name__}, so pass one.")
