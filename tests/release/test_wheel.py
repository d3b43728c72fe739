"""The wheel and the sdist hold what they should, and the wheel, installed into its own environment, runs."""

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import hf_paint


ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "hf_paint"
NO_SOURCE = ("__pycache__", "*.egg-info", ".*")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what a build reads, without what earlier builds have left."""
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns(*NO_SOURCE))
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns(*NO_SOURCE, "corpus", "results"))
    for file in (path for path in ROOT.iterdir() if path.is_file()):
        shutil.copy(file, folder)
    return folder


def build(tree, folder, *what):
    command = [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", str(folder), str(tree)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def distributions(tree, tmp_path_factory):
    """The folder with an sdist, and the wheel that was built from it."""
    return build(tree, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(distributions):
    [path] = distributions.glob("*.whl")
    return path


def files_of(wheel):
    """The files of a wheel with their bytes, without the list of their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(wheel):
    files = {name: data for name, data in files_of(wheel).items() if ".dist-info/" not in name}
    assert files == {
        str(path.relative_to(SOURCE.parent)): path.read_bytes()
        for path in SOURCE.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }
    assert wheel.stat().st_size < 5 * 10**6


@pytest.mark.slow
def test_both_have_the_licence_and_the_version(distributions, wheel):
    inside = f"hf_paint-{hf_paint.__version__}"
    [sdist] = distributions.glob("*.tar.gz")
    assert (wheel.name, sdist.name) == (f"{inside}-py3-none-any.whl", f"{inside}.tar.gz")
    files, licence = files_of(wheel), (ROOT / "LICENSE").read_bytes()
    assert files[f"{inside}.dist-info/licenses/LICENSE"] == licence
    metadata = message_from_bytes(files[f"{inside}.dist-info/METADATA"])
    assert (metadata["Version"], metadata["License-Expression"]) == (hf_paint.__version__, "Apache-2.0")
    with tarfile.open(sdist) as archive:
        assert archive.extractfile(f"{inside}/LICENSE").read() == licence
        outside = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert not outside & {"tests", "docs", "recipes", "dist", "build"}


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel_as_the_checkout(tree, wheel, tmp_path):
    [direct] = build(tree, tmp_path, "--wheel").glob("*.whl")
    assert files_of(direct) == files_of(wheel)


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
def test_wheel_runs_in_a_clean_environment(wheel, tmp_path, monkeypatch):
    """The dependencies come from this environment; the package itself comes from the wheel."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
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
