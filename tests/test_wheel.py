"""The wheel, installed into its own environment, contains its data and runs."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from hf_paint import list_tasks


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_wheel_holds_its_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {f"hf_paint/tasks/built_in/{name}.yaml" for name in list_tasks()}
    data |= {"hf_paint/py.typed", "hf_paint/hub/model_card_template.md"}
    data |= {f"hf_paint/toy_clip/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")}
    assert data <= names
    assert not [name for name in names if name.startswith("tests")]


def test_every_import_is_a_declared_dependency():
    """An undeclared import would be missing in an empty environment; type checkers need no more than torch does."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[\w-]+", requirement)[0] for requirement in declared["dependencies"]}
    extras = [part for name in ("quickstart", "peft", "demo") for part in declared["optional-dependencies"][name]]
    names |= {re.match(r"[\w-]+", requirement)[0] for requirement in extras}
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    third_party = imported - set(sys.stdlib_module_names) - {"hf_paint"}
    spelling = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "vl_convert": "vl-convert-python"}
    assert {spelling.get(name, name) for name in third_party} <= names | {"typing_extensions", "trackio"}  # a tracker
    assert names <= {spelling.get(name, name) for name in third_party}


@pytest.mark.slow
def test_wheel_runs_in_a_clean_environment(wheel, tmp_path):
    """The dependencies come from this environment; the package itself comes from the wheel."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    here = Path(pytest.__file__).parents[1]
    (site / "dependencies.pth").write_text(f"{here}\n")
    where = [python, "-c", "import hf_paint, pathlib; print(pathlib.Path(hf_paint.__file__).parent)"]
    found = subprocess.run(where, check=True, capture_output=True, text=True, cwd=tmp_path).stdout.strip()
    assert Path(found) == site / "hf_paint"
    command = [tmp_path / "venv" / "bin" / "hf-paint", "tasks", "mnist"]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert "ylecun/mnist" in output


def test_the_page_on_dependencies_lists_each_with_its_lower_bound():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *(x for name in ("demo", "peft", "quickstart") for x in extras[name])]
    rows = re.findall(
        r"^\| ([\w-]+) \| ([\d.]+) \|", (ROOT / "docs/reference/dependencies.md").read_text(), re.MULTILINE
    )
    assert set(rows) == {tuple(requirement.split(">=")) for requirement in listed}
