"""RunStore: the finished and running runs of a folder or bucket, one small file each, for the next run to learn from.

From the outside in: `runstore` is what a user holds, `run` what one run is, `thinning` keeps its curve short, `sheet`
is the format of a file, and `place` the folder or bucket that the files lie in.
"""

from lightning_scaling.store.run import StoredRun
from lightning_scaling.store.runstore import RunStore

__all__ = ["RunStore", "StoredRun"]
