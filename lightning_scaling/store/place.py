"""Where the files of a store lie: a local folder, or a folder at any URL that fsspec knows.

A file appears whole or not at all, so that many jobs can write into one place without a server and without a lock.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol

__all__ = ["LocalFolder", "Place", "RemoteFolder", "open_place"]

#: Protocols of buckets, which have no folders to be made. Making one there may create a bucket of a mistyped name.
_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "r2"}


class Place(Protocol):
    """What a store needs of the place where its files lie."""

    @property
    def url(self) -> str:
        """Where it is, for print and to open it again."""

    def list(self) -> dict[str, Hashable]:
        """Return the names of all files, each with a stamp that changes when the file does; a missing folder is empty.

        Hidden files are left out.
        """

    def read(self, names: Sequence[str]) -> dict[str, bytes | Exception]:
        """Return the content of files, or why it could not be read; a file that is not there is left out."""

    def write(self, name: str, data: bytes) -> None:
        """Put a file in its place, whole, instead of one of the same name."""

    def remove(self, name: str) -> None:
        """Delete a file; FileNotFoundError if there is none."""


def open_place(url: str | os.PathLike[str]) -> Place:
    """Return the place at a path or URL; nothing is created or asked for yet.

    Raises:
        TypeError: If `url` is neither text nor a path.
        ValueError: If it is empty or holds one of ``*?[``, or no file system is known for it.
        NotADirectoryError: If it is a file.
        ImportError: If the package of its file system is not installed.

    Example:
        >>> type(open_place("runs")).__name__, type(open_place("memory://runs")).__name__
        ('LocalFolder', 'RemoteFolder')
    """
    path = os.fspath(url) if isinstance(url, os.PathLike) else url
    if not isinstance(path, str):
        raise TypeError(f"Expected url to be a path or URL, got {url!r:.80}, so give text such as 's3://bucket/runs'.")
    for prefix in ("file://", "local://"):
        path = path.removeprefix(prefix)
    if not path.strip():
        raise ValueError("it is empty")
    return RemoteFolder(path) if "://" in path or "::" in path else LocalFolder(path)


class LocalFolder:
    """A folder of this machine or of a network drive.

    A file is written beside its place, brought to the disk and then moved, which is atomic: whoever reads sees the old
    file or the new one. What a killed job leaves behind is hidden, ends in ``.tmp`` and may be deleted.

    Args:
        path: The folder; it is created with the first file.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path).expanduser().absolute()  # the working directory may change
        if self._path.exists() and not self._path.is_dir():
            raise NotADirectoryError(f"{self._path} is a file")

    @property
    def url(self) -> str:
        """Absolute path of the folder."""
        return str(self._path)

    def list(self) -> dict[str, Hashable]:
        """Return the names of the files with their stamps."""
        stamps: dict[str, Hashable] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_file():
                    continue
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    found = entry.stat()
                    stamps[entry.name] = (found.st_ino, found.st_mtime_ns, found.st_size)
        return stamps

    def read(self, names: Sequence[str]) -> dict[str, bytes | Exception]:
        """Return the content of files."""
        contents: dict[str, bytes | Exception] = {}
        for name in names:
            try:
                contents[name] = (self._path / name).read_bytes()
            except FileNotFoundError:
                pass
            except OSError as error:
                contents[name] = error
        return contents

    def write(self, name: str, data: bytes) -> None:
        """Put a file in its place."""
        self._path.mkdir(parents=True, exist_ok=True)
        beside = self._path / f".{name}.{uuid.uuid4().hex}.tmp"
        try:
            with beside.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path / name)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        with contextlib.suppress(OSError):  # the move is safe from a loss of power only then; not all systems can
            folder = os.open(self._path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self, name: str) -> None:
        """Delete a file."""
        (self._path / name).unlink()


class RemoteFolder:
    """A folder at a URL of fsspec; in a bucket a file is put in one request, which is atomic.

    Args:
        url: The URL, such as ``s3://bucket/runs``. What it needs to log in comes from the environment, as fsspec and
            the package of the file system have it.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        if magic := set(url) & set("*?["):
            raise ValueError(f"{min(magic)} stands for several")
        self._open()

    @property
    def url(self) -> str:
        """The URL."""
        return self._url

    def list(self) -> dict[str, Hashable]:
        """Return the names of the files with their stamps."""
        system, root = self._open()
        system.invalidate_cache(root)  # other jobs write here
        try:
            entries = system.ls(root, detail=True)
        except FileNotFoundError:
            return {}
        names = {entry["name"].rsplit("/", 1)[-1]: entry for entry in entries if entry["type"] == "file"}
        return {name: repr(sorted(entry.items())) for name, entry in names.items() if not name.startswith(".")}

    def read(self, names: Sequence[str]) -> dict[str, bytes | Exception]:
        """Return the content of files; where the file system can, they are fetched at the same time."""
        if not names:
            return {}
        system, root = self._open()
        found = system.cat([f"{root}/{name}" for name in names], on_error="return")
        contents: dict[str, bytes | Exception] = {path.rsplit("/", 1)[-1]: data for path, data in found.items()}
        return {name: data for name, data in contents.items() if not isinstance(data, FileNotFoundError)}

    def write(self, name: str, data: bytes) -> None:
        """Put a file in its place."""
        system, root = self._open()
        try:
            system.pipe_file(f"{root}/{name}", data)
        except FileNotFoundError:
            if self._url.partition("://")[0] in _BUCKETS:
                raise
            system.makedirs(root, exist_ok=True)
            system.pipe_file(f"{root}/{name}", data)

    def remove(self, name: str) -> None:
        """Delete a file."""
        system, root = self._open()
        system.invalidate_cache(root)
        system.rm_file(f"{root}/{name}")

    def _open(self) -> tuple[Any, str]:
        """Return the file system and the folder in it; fsspec keeps file systems, and makes new ones after a fork."""
        from fsspec.core import url_to_fs

        system, root = url_to_fs(self._url)
        return system, str(root).rstrip("/")
