"""What people see of a run: `report.html` and the demo."""

from hf_paint.report.contents import Report
from hf_paint.report.writing import write_report


__all__ = ["Report", "write_report"]
