"""Transfers: one copy for each device, no value before it has come, every value where it belongs."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_scaling.recording.transfer import Fetch, Transfer, aside, upload
from tests.faraway import device, far
from tests.integration.test_waiting import WAYS


@pytest.mark.parametrize("way", WAYS)
def test_the_device_of_these_tests_complains(way: str) -> None:
    with pytest.raises(AssertionError, match="waits"):
        WAYS[way](far(1.0))


def test_what_is_on_the_host_is_there_at_once() -> None:
    transfer = Transfer(torch.tensor([1.0, 2.0]))
    assert transfer.is_done()
    assert transfer.values() == [1.0, 2.0]


def test_a_transfer_is_done_when_its_event_is() -> None:
    with device() as there:
        transfer = Transfer(far([1.0, 2.0]))
        assert not transfer.is_done()
        assert transfer._there.tolist() == [-1e9, -1e9]  # nobody has read these
        there.catch_up()
        assert transfer.is_done()
        assert transfer.values() == [1.0, 2.0]
        assert there.waits == 0
        assert Transfer(far([3.0])).values() == [3.0]
        assert (there.waits, there.copies) == (1, [2, 1])


def test_a_wait_is_for_nothing_that_was_queued_later() -> None:
    with device() as there:
        first = Transfer(far([1.0]))
        there.catch_up()
        second = Transfer(far([2.0]))
        assert first.values() == [1.0]
        assert there.waits == 0
        assert not second.is_done()


def test_all_kinds_of_numbers_in_one_copy_and_in_their_order() -> None:
    numbers = [far(4.0), 3.0, far([2.0]), None, far([1.0, 2.0]), torch.tensor(7), far(math.nan), far(-math.inf), 5]
    numbers += [far(torch.tensor(0.1, dtype=torch.bfloat16)), torch.tensor([0.5, 1.5])]
    with device() as there:
        fetch = Fetch(numbers)
        assert fetch.is_remote
        assert not fetch.is_done()
        found = fetch.numbers()
        assert fetch.is_done()
        assert fetch.numbers() is found
    assert str(found) == str([4.0, 3.0, 2.0, None, 1.5, 7.0, math.nan, -math.inf, 5.0, 0.10009765625, 1.0])
    assert there.copies == [6]
    assert there.waits == 1


def test_several_devices_have_a_copy_each() -> None:
    with device() as there:
        found = Fetch([far(1.0), far(2.0, 1), far(3.0), 4.0, far(5.0, 1)]).numbers()
    assert found == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert there.copies == [2, 2]


def test_numbers_of_the_host_need_no_device() -> None:
    with device() as there:
        fetch = Fetch([1.0, None, torch.tensor(2.0)])
        assert not fetch.is_remote
        assert fetch.is_done()
        assert fetch.numbers() == [1.0, None, 2.0]
    assert there.copies == []


def test_a_device_without_events_is_asked_when_the_values_are() -> None:
    transfer = Transfer(torch.empty(3, device="meta"))
    assert transfer._event is None
    assert not transfer.is_done()


def test_on_the_host_nothing_is_uploaded_and_nothing_goes_on_aside() -> None:
    assert upload([1.0, 2.0], torch.int64, torch.device("cpu")).tolist() == [1, 2]
    with aside(torch.device("cpu")):
        assert torch.ones(1).item() == 1.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_that_is_there() -> None:  # pragma: no cover
    numbers = [torch.full((), 1.0 / k, device="cuda") for k in range(1, 300)]
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        fetch = Fetch([*numbers, 0.5, torch.tensor(0.25)])
        back = Transfer(upload([1.0, 2.0], torch.float64, torch.device("cuda")))
        found = fetch.numbers()
        assert fetch.is_done()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    assert found == [*(torch.tensor(1.0 / k).double().item() for k in range(1, 300)), 0.5, 0.25]
    assert back.values() == [1.0, 2.0]
