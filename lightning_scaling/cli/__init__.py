"""The command line ``lightning-scaling``: it parses, calls and prints; everything else is in the Python API."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; where its packages are missing, say so."""
    # Matrices here are small: with more threads most of the time would go into their waiting for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        from lightning_scaling.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in {"typer", "rich"}:
            raise
        print(
            f"Expected typer and rich for the command line, got no module '{error.name}', so "
            "pip install 'lightning-scaling[cli]'.",
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    app()
