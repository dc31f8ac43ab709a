"""The file format: one key per line, strict JSON, and no trust in what lies about."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.store.sheet import BadSheetError, pack, read_json, unpack, write_json

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_what_is_packed_comes_back_in_any_layout(values: dict[str, object]) -> None:
    parts = {key: write_json(value) for key, value in values.items() if key not in ("format", "schema")}
    data = pack(parts)
    assert unpack(data) == parts
    again = unpack(json.dumps(json.loads(data), indent=2).encode())
    assert {key: read_json(text) for key, text in again.items()} == {k: read_json(text) for k, text in parts.items()}


def test_a_file_has_one_key_per_line() -> None:
    lines = pack({"N": "1000", "tags": '{"a":"x\\ny"}'}).decode().splitlines()
    assert lines == ["{", '"format":"lightning_scaling run",', '"schema":1,', '"N":1000,', '"tags":{"a":"x\\ny"}', "}"]


def test_every_cut_of_a_file_is_told_from_a_whole_one() -> None:
    data = pack({"N": "1000", "derived": '{"a":[1,2]}'})
    for length in range(len(data) - 1):  # without its last byte, the end of the line, it is whole
        with pytest.raises(BadSheetError):
            unpack(data[:length])
    assert unpack(data[:-1]) == unpack(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\x00" * 4096, "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"[" * 100_000, "damaged"),
        (b'[{"format":"lightning_scaling run","schema":1}]', "damaged"),
        (b'{"loss": 3}', "another kind"),
        (b'{"format":"lightning_scaling run"}', "without a schema"),
        (b'{"format":"lightning_scaling run","schema":true}', "without a schema"),
        (b'{"format":"lightning_scaling run","schema":"1"}', "without a schema"),
        (b'{"format":"lightning_scaling run","schema":2,"written_by":"9.1"}', r"schema 2 of version 9\.1.*update"),
        (b'{"format":"lightning_scaling run","schema":1,"x":NaN}', "damaged"),
    ],
)
def test_what_is_no_run_says_what_it_is(data: bytes, reason: str) -> None:
    with pytest.raises(BadSheetError, match=reason):
        unpack(data)


def test_nan_and_infinity_are_words_and_nothing_else_is() -> None:
    numbers = [math.nan, math.inf, -math.inf, -0.0, 5e-324, 0.1 + 0.2]
    text = write_json({"x": numbers, "s": "nano"}, words=True)
    json.loads(text, parse_constant=pytest.fail)
    back = read_json(text, words=True)
    assert [repr(x) for x in back["x"]] == [repr(x) for x in numbers]
    assert back["s"] == "nano"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(numbers)
