"""What docs/command_line.md shows is what the commands print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lightning_scaling.cli.app import app

PAGE = (Path(__file__).parents[1] / "docs" / "command_line.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```console\n\$ lightning-scaling (.*?)\n(.*?)```", PAGE, re.DOTALL)


def words(text: str) -> list[str]:
    """Return the words of each line: digits differ a little between machines, and with them a picture."""
    plain = re.sub(r"\d[\d.]*(e-?\d+)?", "0", text)
    return [" ".join(re.findall(r"[A-Za-z_]+", line)) for line in plain.splitlines() if re.search(r"[A-Za-z]", line)]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    folder = tmp_path_factory.mktemp("logs")
    subprocess.run([sys.executable, "-c", code[1]], cwd=folder, check=True, timeout=60)
    return folder


@pytest.mark.parametrize(("command", "printed"), SHOWN, ids=[" ".join(command.split()[:2]) for command, _ in SHOWN])
def test_the_page_shows_what_is_printed(
    logs: Path, monkeypatch: pytest.MonkeyPatch, command: str, printed: str
) -> None:
    monkeypatch.chdir(logs)
    found = CliRunner().invoke(app, command.split())
    assert found.exit_code in (0, 4)
    assert words(found.stdout) == words(printed)
    assert found.stderr == ""


AHEAD = ("first_half.csv", "--horizon", "20000")
ASKED = {
    "forecast": AHEAD,
    "watch": (*AHEAD, "--once"),
    "replay": ("first.csv",),
    "compare": ("first.csv", "second.csv"),
    "plan": ("--compute", "1e20"),
    "runs list": ("--store", "runs"),
    "runs show": ("held-2M", "--store", "runs"),
    "runs import": ("first.csv", "--store", "imported"),
}


@pytest.mark.parametrize("command", ASKED)
def test_the_page_names_the_keys_of_the_json(logs: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.chdir(logs)
    table = dict(re.findall(r"^\| `([a-z ]+)` \| (.*) \|$", PAGE[PAGE.index("\n## JSON") :], re.MULTILINE))
    named = [
        key
        for cell in (table["forecast"] * (command == "watch"), table[command])
        for key in re.findall(r"`(\w+)`", cell)
    ]
    found = CliRunner().invoke(app, [*command.split(), *ASKED[command], "--json"])
    assert found.exit_code == 0
    assert list(json.loads(found.stdout)) == [key for key in named if key != "forecast"]
