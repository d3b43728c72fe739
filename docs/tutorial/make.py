"""Run the tutorial as it is printed, and write what its commands print into the page.

    python docs/tutorial/make.py             # rewrites docs/tutorial/index.md
    python docs/tutorial/make.py --shell     # opens a shell in which the commands can be typed

Run from the root of a checkout, beside the reference data. Nothing leaves the machine: a Hub on this machine serves a
CLIP of 3.2 million parameters as openai/clip-vit-base-patch32, and subsets of CIFAR-10 and GTSRB. Because that model
is small, `hf-paint patch` gets the flags in SMALL.
"""

import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq


ROOT = Path(__file__).parents[2]
PAGE = Path(__file__).with_name("index.md")
SHARED = Path(os.environ.get("HF_PAINT_SHARED", ROOT.parent / "shared"))
sys.path.insert(0, str(ROOT / "tests" / "support"))
from hub_server import HubServer, User  # noqa: E402  (a helper of the tests)


SMALL = "--learning_rate 3e-4 --max_steps 200 --per_device_train_batch_size 32 --use_cpu true"
"""A model this small takes a larger learning rate and fewer steps than those of the papers."""
SERVED = {
    "openai/clip-vit-base-patch32": ("model", "models/tiny-clip"),
    "tanganke/cifar10": ("dataset", "data/cifar10"),
    "tanganke/gtsrb": ("dataset", "data/gtsrb"),
}
MOST_ROWS = {"tanganke/cifar10": {"train": 4000, "test": 1000}}
"""The tutorial reads the first rows of CIFAR-10 only."""
SHOWN = re.compile(r"(```(python|bash)\n(.*?)```\n)(?:(\n```text\n)(.*?)(```\n))?", re.S)
"""A block of code and, if one follows, the block with what it prints."""
HOME = "/home/me"
"""The folder in which the page seems to run."""


def serve(folder: Path) -> HubServer:
    """Start a Hub that has the models and data sets of the tutorial."""
    hub = HubServer(folder, users={"hf_test": User("me")}).start()
    for repo_id, (kind, place) in SERVED.items():
        hub.store.create_repo(kind, repo_id)
        with hub.store.changing(kind, repo_id) as repo:
            most = MOST_ROWS.get(repo_id, {})
            paths = sorted((SHARED / place).iterdir())
            entries = {path.name: hub.store.entry(content(path, most.get(path.stem))) for path in paths}
            repo.add_commit("main", entries, "files")
    return hub


def content(path: Path, num_rows: int | None) -> bytes:
    """Return the bytes of a file, or of one with the first rows of a parquet file."""
    if num_rows is None:
        return path.read_bytes()
    rows = io.BytesIO()
    pq.write_table(pq.read_table(path).slice(0, num_rows), rows)
    return rows.getvalue()


def run(kind: str, code: str, folder: Path, environment: dict[str, str]) -> str:
    """Run a block and return what it prints.

    Raises:
        CalledProcessError: If it fails.
    """
    code = re.sub(r"^hf-paint patch .*$", rf"\g<0> {SMALL}", code, flags=re.M)
    command = [sys.executable, "-c", code] if kind == "python" else ["bash", "-ec", code]
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.stdout.replace(str(folder), HOME).replace(environment["HF_ENDPOINT"], "https://huggingface.co")


def main() -> None:
    """Write the page, or open a shell."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "here")
        folder.mkdir()
        hub = serve(Path(place, "hub"))
        environment = os.environ | hub.environment() | {"HF_PAINT_CACHE": f"{place}/cache", "OMP_NUM_THREADS": "1"}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        if "--shell" in sys.argv:
            sys.stdout.write(f"Add to `hf-paint patch`: {SMALL}\n")
            subprocess.run(os.environ.get("SHELL", "bash"), cwd=folder, env=environment, check=False)
        else:

            def shown(block: re.Match[str]) -> str:
                printed = run(block[2], block[3], folder, environment)
                return f"{block[1]}{block[4]}{printed}{block[6]}" if block[4] else block[1]

            PAGE.write_text(SHOWN.sub(shown, PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        hub.stop()


if __name__ == "__main__":
    main()
