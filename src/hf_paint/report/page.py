"""Render a report as one HTML file.

The file needs nothing else, and its content security policy allows no request. The charts are drawn by Vega, which
comes from the package `vl-convert-python`.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

import vl_convert
from jinja2 import Environment, StrictUndefined

from hf_paint.report.charts import charts_of, comparison
from hf_paint.report.contents import Report
from hf_paint.report.packing import first_json, packed, script_json


FILES = files("hf_paint") / "report" / "page_files"
SCRIPTS = ("text", "elements", "charts", "slider", "tasks", "curves", "classes", "pictures", "rest", "main")
"""Our own scripts, in the order in which they build on each other."""


def render(report: Report) -> str:
    """Return the page of a report.

    Every text of the report is escaped in the page, or is inside JSON from which the page reads it as text.

    Args:
        report: Contents of the page.
    """
    scripts = [_own_script(), _vega()]
    charts = {"runs": [charts_of(run) for run in report["runs"]], "comparison": comparison()}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_read("report.html")).render(
        report=report,
        style=_read("report.css"),
        numbers=first_json(report),
        charts=script_json(charts),
        packed=packed(report),
        scripts=scripts,
        hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
    )


def _own_script() -> str:
    parts = "\n".join(_read(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


@cache
def _vega() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script (BSD 3-clause licence)."""
    return str(vl_convert.javascript_bundle())


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _read(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")
