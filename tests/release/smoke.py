"""`make smoke`: what `pip install "hf-paint[all]"` gives a user, in a fresh environment.

    python tests/release/smoke.py dist

Installs the wheel of this folder with all its extras in a temporary environment: torch as constraints.txt has it, and
otherwise the newest packages that the wheel allows. Then runs `pip check`, imports the extras, and runs `hf-paint
--version`, `tasks` and `quickstart`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"
EXTRAS = ("gradio", "peft", "sklearn")


def main() -> None:
    """Install the wheel and try it; the first command that fails ends this."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="the folder with the wheel")
    [wheel] = parser.parse_args().folder.resolve().glob("*.whl")
    with tempfile.TemporaryDirectory(prefix="hf-paint-smoke-") as folder:
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/venv"], check=True)
        run(folder, "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), "torch")  # as in the Makefile
        run(folder, "pip", "install", "--quiet", f"{wheel}[all]")
        run(folder, "pip", "check")
        run(folder, "python", "-c", f"import hf_paint, {', '.join(EXTRAS)}; assert '{folder}' in hf_paint.__file__")
        versions = run(folder, "hf-paint", "--version")
        assert f"hf-paint {wheel.name.split('-')[1]}\n" in versions
        assert "ylecun/mnist" in run(folder, "hf-paint", "tasks", "mnist")
        run(folder, "hf-paint", "quickstart", "--output_dir", f"{folder}/run")
        chosen = json.loads(Path(folder, "run", "selection.json").read_text())["alpha"]
        size = sum(path.stat().st_size for path in Path(folder, "venv").rglob("*") if path.is_file())
        print(f"{versions}alpha {chosen} in the quickstart; the environment takes {size / 2**30:.1f} GB")


def run(folder: str, program: str, *arguments: str) -> str:
    """Run a program of the environment outside the checkout, and return what it prints."""
    command = [f"{folder}/venv/bin/{program}", *arguments]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\n{' '.join(command)} ended with exit code {done.returncode}.")
    return done.stdout


if __name__ == "__main__":
    main()
