"""What people see of a run: `report.html` and the demo."""

__all__ = ["Report"]

from hf_paint.report.contents import Report
