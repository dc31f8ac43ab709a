"""Loss curves out of the logs that other programs write. NumPy only; a package that a format needs is imported late."""

from lightning_scaling.logfiles.names import Wanted
from lightning_scaling.logfiles.recognise import read_log, read_logs
from lightning_scaling.logfiles.run import RunLog

__all__ = ["RunLog", "Wanted", "read_log", "read_logs"]
