"""A recipe reproduces the results of the papers' released code."""

import sys
from pathlib import Path

import pytest

from hf_paint import get_task
from hf_paint.cli.main import main


ACCEPTANCE = Path(__file__).parent / "acceptance"


@pytest.mark.shared
def test_released_code_is_reproduced(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(ACCEPTANCE.parents[1])
    if shared.resolve() != Path("../shared").resolve():
        pytest.skip("the recipe reads the reference data beside the checkout")
    monkeypatch.setattr(sys, "path", [str(ACCEPTANCE), *sys.path])
    from reference import compare

    recipe = str(ACCEPTANCE / "reference_run.yaml")
    assert main(["patch", "--config", recipe, "--output_dir", str(tmp_path)]) == 0
    task = get_task(ACCEPTANCE / "tasks" / "reference_mnist.yaml")
    for name, found, allowed in compare(tmp_path, shared / "oracles" / "reference_run", task).rows():
        assert found <= allowed, name
