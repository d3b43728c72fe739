"""A small world of models, tasks and runs, and commands in it that can be disturbed and repeated.

A command runs in a fork of a process that has imported everything, so that it starts at once. It always runs at the
same path, so that files which name it are the same in each run.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import yaml
from datasets import config
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

from drawn_tasks import write_task_yaml
from forked_calls import Fork
from hf_paint.cli.main import main
from hf_paint.models.loading import save_clip
from pushes import REPOSITORY, forget, repository
from tiny_families import make


INTERRUPTED = "hf-paint: interrupted; run the same command again to resume"
LEFTOVER = re.compile(r"partial|^\.push-|^\.tmp|^tmp")
STAYS = re.compile(r"\.lock$|/verified\.json$|^hub/")
"""Lock files, which are empty and never deleted, when the files of a cache entry were last verified, and the cache of
the Hub's client, which holds what a push finds there."""
EVALUATIONS = ("cache fill", "pull", "data set", "stream")
SOURCE = Path(__file__).parents[2] / "src"
ENDS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}


class World:
    """A tiny model, three tasks, and a place for one run and its caches.

    Args:
        folder: Empty folder.
        model: Folder of a tiny model; by default, one is made.
        hub: Hub for pushes, to which this process is logged in.
    """

    def __init__(self, folder, model=None, hub=None):
        self.folder, self.place, self.hub = folder, folder / "place", hub
        self.published = set()
        self.model = folder / "clip" if model is None else model
        if model is None:
            save_clip(*make("metaclip_2"), self.model)
        few = {"train": 24, "test": 12}
        self.data = folder / "data"
        self.tasks = [write_task_yaml(self.data, name, seed=seed, **few) for name, seed in (("a", 0), ("b", 7))]
        self.kept = write_task_yaml(self.data, "kept", seed=5, **few)

    def arguments(self, name):
        """The arguments of a command.

        Args:
            name: `single`, `sequential` or `parallel` run, `push`, `pull`, `cache fill`, or an evaluation on a data
                set of the Hub that is loaded (`data set`) or streamed (`stream`).
        """
        if name == "push":
            return ["push", str(self.place / "run"), "--repo_id", REPOSITORY, "--base_model_id", "o/clip"]
        evaluated = {"cache fill": self.tasks, "pull": self.tasks[:1]}.get(name, [str(self.folder / f"{name}.yaml")])
        if name in EVALUATIONS:
            model = "tester/pulled" if name == "pull" else str(self.model)
            return ["evaluate", model, "--tasks", *evaluated, "--use_cpu", "--json"]
        return [
            *("patch", "--model", str(self.model), "--strategy", name, "--supported_tasks", self.kept),
            *("--patching_tasks", *(self.tasks[:1] if name == "single" else self.tasks)),
            *("--search_budget", "4") * (name == "parallel"),
            *(
                "--alphas",
                "0",
                "0.5",
                "1",
                "--num_examples",
                "1",
                "--use_cpu",
                "--output_dir",
                str(self.place / "run"),
            ),
            *("--max_steps", "4", "--save_steps", "2", "--warmup_steps", "1", "--learning_rate", "1e-3"),
            *("--per_device_train_batch_size", "8", "--use_cpu"),
        ]

    def begin(self, name):
        """Make the place what it is before a command: empty, or before a push, with a finished run."""
        shutil.rmtree(self.place, ignore_errors=True)
        if name != "push":
            return self.place.mkdir()
        finished = self.folder / "finished"
        if not finished.exists():
            self.place.mkdir()
            self.run("single")
            self.place.rename(finished)
        shutil.copytree(finished, self.place)
        with contextlib.suppress(HfHubHTTPError):  # there is none
            forget(self.hub, keep=self.published)
        return None

    def start(self, name, disturb=None):
        """Start a command in a fork; `disturb()` is called in it before."""

        def call():
            self.use_place()
            if disturb is not None:
                disturb()
            return main(self.arguments(name))

        return Fork(call)

    def use_place(self):
        """Let this process keep its caches in the place."""
        os.environ["HF_PAINT_CACHE"] = str(self.place / "cache")
        constants.HF_HUB_CACHE = str(self.place / "hub")
        config.HF_DATASETS_CACHE = config.HF_DATASETS_CACHE.__class__(self.place / "datasets")

    def publish(self):
        """Put a model and a data set on the Hub, for commands that read them from there."""
        api = HfApi()
        for kind, repo_id, files in (("model", "tester/pulled", self.model), ("dataset", "tester/data", self.data)):
            api.create_repo(repo_id, repo_type=kind)
            api.upload_folder(repo_id=repo_id, folder_path=files, repo_type=kind, allow_patterns=["*.*", "a-*"])
        for name in ("data set", "stream"):
            task = {"name": "net", "dataset": "tester/data", "templates": ["a {}."], "streaming": name == "stream"}
            (self.folder / f"{name}.yaml").write_text(yaml.safe_dump(task))
        self.published = {blob.name for blob in (self.hub.store.root / "blobs").iterdir()}

    def run(self, name):
        """Run a command to its end, and return what it leaves."""
        code, printed = self.start(name).wait(120)
        if code:
            raise AssertionError(f"exit code {code}: {printed[-2000:]}")
        return self.left(name, printed)

    def left(self, name, printed):
        """File -> content, of all that a user may find in the place; also what is on the Hub or was printed."""
        if name in ("pull", "data set", "stream"):  # the caches of other libraries name times and processes
            return {"printed": json.loads(printed[printed.index("{") : printed.rindex("}") + 1])}
        files = {}
        for path in sorted(self.place.rglob("*")):
            file = path.relative_to(self.place).as_posix()
            if path.is_file() and not STAYS.search(file):
                files[file] = path.read_bytes()
            elif path.is_dir() and LEFTOVER.search(path.name):
                files[file] = b"a leftover"
        if name == "push":
            branches = repository()
            files |= {f"{branch} {file}": blob for branch, blobs in branches.items() for file, blob in blobs.items()}
        return files


def start_process(arguments, **environment):
    """Start the command line as users do."""
    own = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "hf_paint", *arguments],
        env=own
        | {name: os.environ[name] for name in ("HF_HOME", "HF_PAINT_CACHE") if name in os.environ}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def differences(found, expected):
    """The files that differ, with what is wrong with them."""
    return [
        f"{name} {'is missing' if name not in found else 'is left over' if name not in expected else 'differs'}"
        for name in sorted(found.keys() | expected.keys())
        if found.get(name) != expected.get(name)
    ]


def warm_up(world, names):
    """Import in this process what commands import, so that its forks need not."""
    listed = world.folder / "modules"

    def run_and_list(name):
        world.use_place()
        code = main(world.arguments(name))
        listed.write_text("\n".join(sys.modules))
        return code

    for name in names:
        world.begin(name)
        code, printed = Fork(partial(run_and_list, name)).wait(120)
        if code:
            raise AssertionError(printed)
        for module in listed.read_text().splitlines():
            with contextlib.suppress(Exception):  # some cannot be imported by name
                import_module(module)


def at_write(nth, act, folder, listed=None):
    """Call `act(path)` before the n-th call that writes below a folder.

    Calls of Python are seen: opening a file to write, making a folder, moving and removing. With `listed`, a file
    outside, each gets a line there.
    """
    lines = None if listed is None else listed.open("w", buffering=1)
    count = 0

    def hook(event, arguments):
        nonlocal count
        path = _written(event, arguments)
        if path is not None and os.fspath(path).startswith(str(folder)):
            count += 1
            if lines is not None:
                lines.write(f"{event} {path}\n")
            if count == nth:
                act(str(path))

    sys.addaudithook(hook)


def _written(event, arguments):
    """The path that an event writes to, or None."""
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode) & set("wax+") if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        return path if writes and isinstance(path, (str, os.PathLike)) else None
    if event in ("os.rename", "os.link", "os.symlink"):
        return arguments[1]
    return arguments[0] if event in ("os.mkdir", "os.truncate", "os.remove", "os.rmdir") else None
