"""The base class of the callback: whatever is installed, and nothing that disturbs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HIDE = """
import importlib.abc, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hide())
import importlib.util
original = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.partition(".")[0] in {hidden!r} else original(name, *a)
"""


def run(code: str, *hidden: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HIDE.format(hidden=hidden) + code],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


NAMES = """
from lightning_scaling import ScalingLawMonitor
print(sorted(c.__module__.partition(".")[0] for c in ScalingLawMonitor.__mro__ if c.__name__ == "Callback"))
"""


@pytest.mark.parametrize(("hidden", "bases"), [("lightning", "pytorch_lightning"), ("pytorch_lightning", "lightning")])
def test_one_package_is_enough(hidden: str, bases: str) -> None:
    assert run(NAMES, hidden) == str([bases])


def test_without_any_the_message_says_what_to_do() -> None:
    code = """
try:
    from lightning_scaling import ScalingLawMonitor
except ModuleNotFoundError as error:
    print(error)
"""
    assert "install one of them" in run(code, "lightning", "pytorch_lightning")


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_users_own_package_keeps_its_log(package: str) -> None:
    code = f"""
import {package}
from lightning_utilities.core import rank_zero
before = rank_zero.log.name
from lightning_scaling import ScalingLawMonitor
print(before == rank_zero.log.name, len([c for c in ScalingLawMonitor.__mro__ if c.__name__ == "Callback"]))
"""
    assert run(code) == "True 2"
