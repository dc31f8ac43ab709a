"""Two ranks on this machine: a module run as two processes (gloo), and what each of them printed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

Reports = dict[str, list[dict[str, Any]]]


def free_ports(n: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def run_on_two_ranks(module: str, *arguments: str, timeout_s: float, spare_ports: int = 0) -> Reports:
    """Run a module as two ranks and return the reports that it printed, a line of JSON each, by scenario, rank 0 first.

    Args:
        module: Dotted name of the module.
        arguments: Its arguments.
        timeout_s: Time that it may take [s].
        spare_ports: Free ports that it finds in ``SPARE_PORTS``.
    """
    port, *spare = free_ports(1 + spare_ports)
    root = Path(__file__).parents[2]
    processes = []
    for rank in (0, 1):
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
        where["SPARE_PORTS"] = " ".join(map(str, spare))
        environment = os.environ | where | {"LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        command = [sys.executable, "-m", module, *arguments]
        processes.append(
            subprocess.Popen(
                command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    found: Reports = {}
    try:
        # Both are read at once: a rank whose pipe is full waits, and the other waits for it.
        with ThreadPoolExecutor(2) as pool:
            outputs = list(pool.map(lambda process: process.communicate(timeout=timeout_s), processes))
        for process, (out, err) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, err[-4000:]
            for line in out.splitlines():
                if line.startswith("{"):
                    report = json.loads(line)
                    found.setdefault(report["scenario"], []).append(report)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return found
