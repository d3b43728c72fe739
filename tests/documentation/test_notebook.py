"""The notebook runs offline from an empty folder, and its kept outputs are what it gives now."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient


sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import build_gallery


ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/notebooks/quickstart.ipynb"
MOST_BYTES = 1_000_000
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:e-?\d+)?")
SHOWN = ("text/html", "text/markdown", "text/plain")


def shown(notebook):
    """Return the texts of the outputs of each cell, without pictures and the page of the report."""
    cells = []
    for cell in notebook.cells:
        outputs = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
        texts = [text for output in outputs for text in texts_of(output)]
        cells.append([re.sub(r"data:image/png;base64,[\w+/=]+|<iframe.*", "", text, flags=re.S) for text in texts])
    return cells


def texts_of(output):
    if output.output_type == "stream":
        return [output.text]
    return [output.data[kind] for kind in SHOWN if kind in output.data]


def test_the_kept_outputs_are_those_of_today(tmp_path, monkeypatch):
    """Texts are equal; numbers may differ by a few images, because processors round differently."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    kept = nbformat.read(NOTEBOOK, 4)
    fresh = nbformat.read(NOTEBOOK, 4)
    NotebookClient(fresh, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for now, before in zip(shown(fresh), shown(kept), strict=True):
        assert [NUMBER.sub("#", text) for text in now] == [NUMBER.sub("#", text) for text in before]
        numbers, expected = (list(map(float, NUMBER.findall(" ".join(texts)))) for texts in (now, before))
        assert numbers == pytest.approx(expected, abs=1.0)


def test_the_page_of_the_notebook_loads_nothing_from_the_network():
    convert = pytest.importorskip("mkdocs_jupyter.convert")
    found = convert.nb2html(str(NOTEBOOK))
    html = build_gallery.MATHJAX.sub("", found)
    assert "<h1" in html
    assert len(html) < len(found)
    loaded = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?([^\"' >]+)", html)
    assert [address for address in loaded if address.startswith(("http", "//"))] == []


def test_the_notebook_is_small_and_was_run_from_the_top():
    assert NOTEBOOK.stat().st_size < MOST_BYTES
    code = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {kind for cell in code for output in cell.outputs for kind in output.get("data", {})}
    assert {"image/png", "text/html"} <= kinds
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
