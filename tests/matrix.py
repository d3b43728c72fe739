"""`make matrix`: the tests with the oldest and the newest supported packages, on each Python that is installed.

    python tests/matrix.py [oldest newest] [--folder DIR] [--tests tests/models ...]

For each combination, this makes a virtual environment, installs the package with the lower bounds of pyproject.toml
(`oldest`) or without any bound (`newest`), runs `pip check` and the tests, and prints a table. Environments are kept
in the folder, so that a second run only tests. A Python that is not installed is listed as such.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
EXTRAS = ("demo", "peft", "quickstart")
TOOLS = (*("pytest", "pytest-xdist", "setuptools", "build", "hypothesis"), *("tensorboard", "wandb", "playwright"))
"""Packages that the tests need, in any version."""
SHOWN = ("torch", "transformers", "huggingface_hub", "datasets", "accelerate", "peft", "numpy", "pillow")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened in one environment."""

    python: str
    bounds: str
    versions: str
    check: str
    tests: str

    @property
    def ok(self) -> bool:
        """Whether all went well, or there was nothing to try."""
        passed = " passed" in self.tests and not re.search("failed|error", self.tests)
        return self.tests.startswith("not installed") or (self.check == "ok" and passed)


def main() -> int:
    """Test every combination; the exit code is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bounds", nargs="*", help="`oldest`, `newest`; both by default")
    parser.add_argument("--folder", type=Path, default=ROOT / ".matrix", help="where the environments are made")
    parser.add_argument("--tests", nargs="*", default=[], help="tests to run; by default all")
    parsed = parser.parse_args()
    outcomes = []
    for python in PYTHONS:
        for bounds in parsed.bounds or ("oldest", "newest"):
            outcomes.append(run(python, bounds, parsed.folder, parsed.tests))
            print(table(outcomes), flush=True)
    return 0 if all(outcome.ok for outcome in outcomes) else 1


def run(python: str, bounds: str, folder: Path, tests: list[str]) -> Outcome:
    """Make one environment and test it."""
    program = f"python{python}"
    if not is_installed(program):
        return Outcome(python, bounds, "", "", "not installed here")
    environment = folder / f"{python}-{bounds}"
    if not (environment / "ready").exists():
        install(program, environment, requirements(bounds))
        (environment / "ready").touch()
    programs = environment / "bin"
    check = _last_line([programs / "pip", "check"])
    print(f"\n## Python {python}, {bounds}\n", flush=True)
    command = [programs / "python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *tests]
    return Outcome(
        python=python,
        bounds=bounds,
        versions=installed(programs),
        check="ok" if check.startswith("No broken") else check,
        tests=_last_line(command).strip("= "),
    )


def is_installed(program: str) -> bool:
    """Return whether a Python runs; pyenv has programs for those that it could run elsewhere."""
    found = shutil.which(program)
    return found is not None and subprocess.run([found, "--version"], capture_output=True).returncode == 0


def requirements(bounds: str) -> list[str]:
    """Return what to install: the package's requirements at their lower bounds, or as they are.

    A requirement at its lower bound is `==` that version and all of its later patches (`torch==2.9.*`).
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *(x for extra in EXTRAS for x in project["optional-dependencies"][extra])]
    return listed if bounds == "newest" else [lowest(requirement) for requirement in listed]


def lowest(requirement: str) -> str:
    """Return a requirement at its lower bound.

    Example:
        >>> lowest("torch>=2.9"), lowest("evaluate>=0.4.6")
        ('torch==2.9.*', 'evaluate==0.4.6')
    """
    name, version = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement).groups()
    return f"{name}=={version}{'.*' if version.count('.') == 1 else ''}"


def install(program: str, environment: Path, listed: list[str]) -> None:
    """Make an environment; torch goes first, as in the Makefile."""
    subprocess.run([program, "-m", "venv", "--clear", str(environment)], check=True)
    pip = [str(environment / "bin/pip"), "install", "--quiet"]
    torch = [requirement for requirement in listed if requirement.startswith("torch")]
    for arguments in (torch, [*listed, *TOOLS], ["--no-deps", "--editable", str(ROOT)]):
        subprocess.run([*pip, *arguments], check=True)


def installed(programs: Path) -> str:
    """Return the versions of the main packages."""
    lines = subprocess.run(
        [programs / "pip", "freeze"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    found = dict(line.split("==") for line in lines if line.count("==") == 1)
    found = {name.lower().replace("-", "_"): version for name, version in found.items()}
    return ", ".join(f"{name} {found.get(name, 'absent')}" for name in SHOWN)


def table(outcomes: list[Outcome]) -> str:
    """Return the outcomes as a Markdown table."""
    rows = [f"| {x.python} | {x.bounds} | {x.versions} | {x.check} | {x.tests} |" for x in outcomes]
    return "\n".join(["", "| Python | versions | installed | pip check | tests |", "| --- " * 5 + "|", *rows])


def _last_line(command: list[object]) -> str:
    """Run a command, show its output, and return the last line."""
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    sys.stdout.write(done.stdout[-4000:])
    return (done.stdout.strip() or done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]


if __name__ == "__main__":
    sys.exit(main())
