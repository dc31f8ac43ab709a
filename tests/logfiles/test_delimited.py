"""Tables in text: delimiters, holes, quotes, headers, and the two ways of reading them."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.logfiles import Wanted, read_log
from lightning_scaling.logfiles.delimited import Table, _fast, _thorough, number
from tests.logfiles.runs import STEPS, losses, rates


def table(text: str) -> Table:
    return Table(Path("run.csv"), text.encode())


def column(text: str, name: str) -> list[float]:
    return [float(x) for x in table(text).numbers([name])[name]]


CELL = st.one_of(
    st.just(""),
    st.just("nan"),
    st.just("-inf"),
    st.integers(-(10**6), 10**6).map(str),
    st.floats(-1e6, 1e6, allow_nan=False).map(repr),
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: f"{x:.4e}"),
)
#: What programs and people write besides.
ODD = st.one_of(
    CELL,
    st.sampled_from(['"2.5"', '""', "None", "N/A", " 2.5 ", '" 2.5"', "1_000", "é", '"a, b"', "2,5", "-", "1e400"]),
    st.sampled_from(['"', '5"', '"a"b', '"a""b"', "# 1", "#", "\r", "\x00", '"a\nb"', "2.5\r", " ", "\t"]),
)


def whole(found: Table, names: list[str]) -> list[list[float]]:
    """Return columns as they are read cell by cell, the file at once."""
    index = [found.names.index(name) for name in names]
    return [column.tolist() for column in _thorough(found._rows(), index, [found._reader(i) for i in index])]


@given(
    rows=st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=30),
    end=st.sampled_from(["\n", "\r\n"]),
    index=st.sampled_from([[0, 1, 2], [1], [2, 0]]),
)
def test_the_fast_way_reads_what_the_thorough_one_does(
    rows: list[tuple[str, str, str]], end: str, index: list[int]
) -> None:
    block = "".join(",".join(row) + end for row in rows)
    fast = _fast(block.encode(), ",", index, [number] * len(index))
    thorough = _thorough(iter([list(row) for row in rows]), index, [number] * len(index))
    np.testing.assert_array_equal(fast, thorough)
    assert not np.isneginf(thorough).any()


@given(
    rows=st.lists(st.lists(ODD, min_size=1, max_size=4), max_size=12),
    delimiter=st.sampled_from([",", "\t", ";", "|", " "]),
    head=st.sampled_from(
        ["step{d}loss\n", "# by me\nstep{d}loss\r\n", "# step{d}loss\n", "1{d}2.5\n", "\n\nstep{d}loss\n"]
    ),
    last=st.sampled_from(["", "\n", "\r\n", "\n3", '\n3{d}"2.']),
    block=st.sampled_from([1, 7, 64, 10_000]),
)
def test_whatever_is_in_a_file_blocks_of_it_are_read_as_the_whole(
    rows: list[list[str]], delimiter: str, head: str, last: str, block: int
) -> None:
    text = head.replace("{d}", delimiter) + "\n".join(delimiter.join(row) for row in rows)
    found = Table(Path("run.csv"), (text + last.replace("{d}", delimiter)).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_scaling.logfiles.delimited._BLOCK", block)
        names = list(found.names)
        try:
            thorough = whole(found, names)
        except csv.Error:
            return
        np.testing.assert_array_equal([column.tolist() for column in found.numbers(names).values()], thorough)


def test_words_and_holes_in_other_columns_do_not_matter() -> None:
    rows = "".join(f"{s},{1 / s},{'' if s % 2 else 'epoch 1'}\n" for s in range(1, 50))
    fast = _fast(rows.encode(), ",", [0, 1, 2], [number] * 3)
    assert fast[1].tolist() == [1 / s for s in range(1, 50)]
    assert np.isnan(fast[2]).all()


@pytest.mark.parametrize("rows", ["1,2\n3\n", "1,2\n# 3,4\n", '1,5"\n', "1,2\r3,4\n", "1,2\n3,4"])
def test_what_is_not_simple_is_left_to_the_thorough_way(rows: str) -> None:
    with pytest.raises(ValueError, match=r"^Expected"):
        _fast(rows.encode(), ",", [0, 1], [number] * 2)


def test_a_file_on_the_disk_is_read_as_its_bytes_are(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.write_text("step,loss\n" + "".join(f"{s},{1 / s}\n" for s in range(1, 500)))
    data = path.read_bytes()
    with path.open("a") as stream:  # the run goes on meanwhile
        stream.write("500,0.002\n501,0.0")
    found = Table(path, data).numbers(["step", "loss"])
    assert found["step"].tolist() == list(range(1, 500))
    assert found["loss"].tolist() == [1 / s for s in range(1, 500)]


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|", " "])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "run.txt"
    rows = [
        ["step", "loss", "lr"],
        *([f"{s:.0f}", f"{y}", f"{r}"] for s, y, r in zip(STEPS, losses(), rates(), strict=True)),
    ]
    path.write_text("\n".join(delimiter.join(row) for row in rows) + "\n")
    log = read_log(path)
    assert log.curve.S.tolist() == STEPS.tolist()
    assert log.curve.L.tolist() == losses().tolist()
    assert log.curve.lr is not None
    assert log.curve.lr.tolist() == rates().tolist()


def test_commas_in_numbers() -> None:
    text = "step;loss\n" + "".join(f"{s};{str(1.5 + s).replace('.', ',')}\n" for s in range(5))
    assert column(text, "loss") == [1.5, 2.5, 3.5, 4.5, 5.5]


def test_quotes_and_commas_in_names() -> None:
    text = '"Step","a, b - loss","note"\n1,2.5,"x,y"\n2,2.25,\n'
    assert table(text).names == ("Step", "a, b - loss", "note")
    assert column(text, "a, b - loss") == [2.5, 2.25]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("3.5\n2.5\n2.0\n", ("loss",)),
        ("1,3.5\n2,2.5\n", ("step", "loss")),
        ("1 3.5 0.1\n2 2.5 0.1\n", ("1", "2", "3")),
        ("# step loss\n1 3.5\n2 2.5\n", ("step", "loss")),
        ("# made by me\nstep,loss\n1,3.5\n", ("step", "loss")),
        ("step,loss,loss,\n1,2,3,4\n", ("step", "loss", "loss (3)", "column (4)")),
    ],
)
def test_headers(text: str, names: tuple[str, ...]) -> None:
    assert table(text).names == names


def test_a_file_without_a_header_loses_no_row() -> None:
    assert column("1,3.5\n2,2.5\n", "loss") == [3.5, 2.5]
    assert column("# step loss\n1 3.5\n2 2.5\n", "loss") == [3.5, 2.5]


def test_words_for_nothing_are_holes_and_nan_is_a_value() -> None:
    found = column("step,loss\n1,None\n2,null\n3,N/A\n4,NaN\n5,inf\n6,hello\n7,2.5\n", "loss")
    assert [math.isnan(x) for x in found] == [True, True, True, False, False, True, False]
    assert found[3] == found[4] == math.inf


def test_a_ragged_row_and_one_that_is_being_written() -> None:
    assert column("step,loss,lr\n1,3.5,0.1\n2,2.5\n3", "step") == [1.0, 2.0, 3.0]
    assert math.isnan(column("step,loss,lr\n1,3.5,0.1\n2,2.5\n3", "loss")[2])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_and_compression(tmp_path: Path, encoding: str) -> None:
    text = "step,loss\n" + "".join(f"{s},{y}\n" for s, y in zip(STEPS, losses(), strict=True))
    path = tmp_path / "run.csv.gz"
    path.write_bytes(gzip.compress(text.encode(encoding)))
    log = read_log(path)
    assert log.curve.L.tolist() == losses().tolist()
    assert log.columns == {"step": "step", "loss": "loss"}


def test_a_column_that_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "run.dat"
    path.write_text("".join(f"{y} {s} {r}\n" for s, y, r in zip(STEPS, losses(), rates(), strict=True)))
    log = read_log(path, Wanted(step="2", loss="1", lr="3"))
    assert log.curve.S.tolist() == STEPS.tolist()
    assert log.curve.L.tolist() == losses().tolist()
