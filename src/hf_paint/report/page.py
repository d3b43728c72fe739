"""Render a report as one HTML file.

The file needs nothing else, and its content security policy allows no request. The charts are drawn by Vega, which
comes from the package `vl-convert-python`.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template

from hf_paint.report.charts import charts_of, comparison, noun_of
from hf_paint.report.contents import Report
from hf_paint.report.packing import first_json, pack, packed_rest, script_json


FILES = files("hf_paint") / "report" / "page_files"
SCRIPTS = ("text", "elements", "charts", "slider", "tasks", "curves", "classes", "pictures", "rest", "main")
"""Our own scripts, in the order in which they build on each other."""


def render(report: Report) -> str:
    """Return the page of a report.

    Every text of the report is escaped in the page, or is inside JSON from which the page reads it as text.

    Args:
        report: Contents of the page.
    """
    script, (vega_digest, vega) = _own_script(), _vega()
    charts = {"runs": [charts_of(run) for run in report["runs"]], "comparison": comparison()}
    return _template().render(
        report=report,
        nouns=[noun_of(run) for run in report["runs"]],
        style=_read("report.css"),
        numbers=first_json(report),
        charts=script_json(charts),
        packed=packed_rest(report),
        licences=_read("licences.txt"),
        vega=vega,
        script=script,
        hashes=f"'{_digest(script)}' '{vega_digest}'",
    )


@cache
def _template() -> Template:
    """Return the template of the page, compiled once per process."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_read("report.html"))


@cache
def _own_script() -> str:
    parts = "\n".join(_read(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


@cache
def _vega() -> tuple[str, str]:
    """Return Vega, Vega-Lite and Vega-Embed as one script (BSD 3-clause licence): its digest and itself, packed."""
    import vl_convert  # only now: a run needs none of it until it draws its report

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return _digest(script), pack(script)


def _digest(script: str) -> str:
    """Return the digest by which a content security policy allows a script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _read(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")
