"""All I have is a CSV of a run that still goes on: where will it end?

    python examples/08_own_csv.py

writes such a file: the first 40 % of a run of the store that ships with the package, a small transformer trained on the
source of Python's standard library. Reads it, says which columns were taken, forecasts the end, and compares that with
what the run did in the end. The same on the command line, and for any log that it can read:

    lightning-scaling forecast run.csv --horizon 1000 --schedule cosine:0.1 --warmup 40
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

from lightning_scaling import StoredRun, example_store, forecast
from lightning_scaling.logfiles import read_log
from lightning_scaling.named_schedule import planned_rates

SHARES = (0.2, 0.4, 0.6)


def write_csv(run: StoredRun, until: float, path: Path) -> None:
    """Write the run as a script of one's own might have done, up to a step."""
    seen = run.curve.until(until)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["iteration", "train loss", "lr"])
        table.writerows(zip(seen.S, seen.L, seen.lr, strict=True))


def main(shares: tuple[float, ...]) -> None:
    runs = example_store().runs(tags={"schedule": "cosine"}, state="finished")
    run = max(runs, key=lambda run: (run.N, run.horizon))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "run.csv")
        for share in shares:
            write_csv(run, share * run.horizon, path)
            log = read_log(path)
            rates = planned_rates(log.curve, run.horizon, "cosine:0.1", warmup=40)
            found = forecast(log.curve, horizon=run.horizon, lr_schedule=rates.schedule)
            print(f"{path.name}: {str(log).partition(': ')[2]}\n{rates.assumed}\n{found}\n")
    print(f"What happened: it ended at {run.final_loss:.4g}±{run.final_loss_error:.2g}.")


if __name__ == "__main__":
    main(SHARES[-1:] if "--quick" in sys.argv else SHARES)
