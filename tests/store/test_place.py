"""Folders and buckets hold the same promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from lightning_scaling.store.place import LocalFolder, Place, RemoteFolder, open_place


class Forgetful(MemoryFileSystem):
    """A file system that lists from memory until told otherwise, as those of buckets do, and makes no folders."""

    protocol = "forgetful"
    store: dict[str, Any] = {}  # noqa: RUF012 (the base class has it so)
    pseudo_dirs = [""]  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("forgetful:/")))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True, **kwargs)
        found = self.dircache[path]
        return found if detail else [entry["name"] for entry in found]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        if not self.isdir(self._parent(path)):
            raise FileNotFoundError(path)
        super().pipe_file(path, value, **kwargs)


fsspec.register_implementation("forgetful", Forgetful, clobber=True)


@pytest.fixture(params=["local", "file", "memory", "forgetful"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param in ("local", "file"):
        return open_place(("file://" if request.param == "file" else "") + str(tmp_path / "a" / "b"))
    return open_place(f"{request.param}://{tmp_path.name}/a/b")


def test_a_file_is_put_read_replaced_and_removed(place: Place) -> None:
    assert place.list() == {}
    assert place.read(["a.x"]) == {}
    place.write("a.x", b"one")
    place.write("b.x", b"two")
    before = place.list()
    assert sorted(before) == ["a.x", "b.x"]
    assert place.read(["a.x", "gone.x", "b.x"]) == {"a.x": b"one", "b.x": b"two"}
    place.write("a.x", b"new")
    after = place.list()
    assert after["a.x"] != before["a.x"], "a file of equal size has changed"
    assert after["b.x"] == before["b.x"]
    assert place.read(["a.x"]) == {"a.x": b"new"}
    place.remove("a.x")
    assert list(place.list()) == ["b.x"]
    with pytest.raises(FileNotFoundError):
        place.remove("a.x")


def test_what_another_job_writes_is_seen(place: Place) -> None:
    other = open_place(place.url)
    other.write("a.x", b"1")
    assert list(place.list()) == ["a.x"]
    other.write("b.x", b"2")
    assert sorted(place.list()) == ["a.x", "b.x"]


def test_folders_and_hidden_files_are_no_files_of_the_store(tmp_path: Path) -> None:
    place = LocalFolder(str(tmp_path))
    (tmp_path / "deeper.x").mkdir()
    (tmp_path / ".a.x.123.tmp").write_bytes(b"half")
    place.write("a.x", b"1")
    assert list(place.list()) == ["a.x"]
    remote = RemoteFolder(f"memory://{tmp_path.name}/hidden")
    for name in ("a.x", ".b.x", "deeper/c.x"):
        remote.write(name, b"1")
    assert list(remote.list()) == ["a.x"]


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = open_place(Path("runs"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    place.write("a.x", b"1")
    assert (tmp_path / "runs" / "a.x").read_bytes() == b"1"
    assert place.url == str(tmp_path / "runs")


def test_the_home_folder_is_known_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_place("~/runs").url == str(tmp_path / "runs")


def test_others_may_read_what_one_has_written(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    LocalFolder(str(tmp_path)).write("a.x", b"1")
    assert (tmp_path / "a.x").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_bucket_is_never_created(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_scaling.store.place._BUCKETS", {"forgetful"})
    with pytest.raises(FileNotFoundError):
        open_place("forgetful://mistyped/runs").write("a.x", b"1")
