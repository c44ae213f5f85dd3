"""What people look at: terminal tables, and one HTML file with pictures and a planner that works without a network.

`ReportContent` is everything a page can say; a study or a fit fills it and `write_report` renders it. `report_of` does
both for the folder of a demo or a fit. `tables` writes the same results for a terminal.
"""

from limbeck.report import tables
from limbeck.report.content import Forecast, Marked, ReportContent, Sample, StudentRow
from limbeck.report.folder import content_of
from limbeck.report.gallery import write_gallery
from limbeck.report.page import render, report_of, write_report

__all__ = [
    "Forecast", "Marked", "ReportContent", "Sample", "StudentRow", "content_of", "render", "report_of", "tables",
    "write_gallery", "write_report",
]  # fmt: skip
