"""The report of a campaign: one self-contained HTML page, and one picture."""

from selfdev_core.report.page import render_report
from selfdev_core.report.picture import plot_png

__all__ = ["plot_png", "render_report"]
