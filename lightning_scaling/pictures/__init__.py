"""Pictures of runs: losses and forecasts, residuals, records, sizes, frontiers and calibration.

Functions named ``plot_…`` draw into axes and return them. `run_figure` composes a picture of one run without pyplot,
and `theme` sets colours for light and dark. Matplotlib, extra ``plot``, is imported inside functions only.
"""

from lightning_scaling.pictures.calibration import plot_calibration
from lightning_scaling.pictures.figure import figure_bytes, run_figure, save_picture
from lightning_scaling.pictures.forecasts import plot_forecast, plot_schedule
from lightning_scaling.pictures.record import plot_record
from lightning_scaling.pictures.residuals import plot_residuals
from lightning_scaling.pictures.sizes import plot_frontier, plot_sizes
from lightning_scaling.pictures.theme import theme

__all__ = [
    "figure_bytes",
    "plot_calibration",
    "plot_forecast",
    "plot_frontier",
    "plot_record",
    "plot_residuals",
    "plot_schedule",
    "plot_sizes",
    "run_figure",
    "save_picture",
    "theme",
]
