"""A place with finished and unfinished runs, a patch and a cache, whose files are damaged before a command."""

import contextlib
import io
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from huggingface_hub import hf_api

from blank_plots import blank_plots
from damaging import DAMAGES, replace_by
from drawn_tasks import write_task_yaml
from hf_paint.adapters.patch import save_patch
from hf_paint.cli.main import main
from hf_paint.models.loading import save_clip
from hf_paint.models.stored import StoredTower
from hf_paint.results.run_files import DRAWN, PER_IMAGE, is_one_of
from hf_paint.results.seals import seal_run
from hf_paint.training.trainer import PaintTrainer
from hf_paint.weights.manifest import MANIFEST
from hub_client import log_in
from hub_server import HubServer
from tiny_families import make


REPLACED = "another run's"
"""What happened to a file that was replaced by the one of the same name of another run."""
REPOSITORY = "tester/clip"
NOT_READ = (".lock", ".svg", "verified.json")
"""Names of files that no command reads: locks, plots beside the ones shown, and times of verification."""


@dataclass(frozen=True)
class Scene:
    """What is damaged before a command, and where the command's results are.

    Attributes:
        name: What is damaged, e.g. `finished run`.
        command: Name of the command.
        arguments: Arguments of the command line.
        part: Folder in the place whose files are damaged.
        results: Folders and files in the place that the command writes; empty if it prints its results.
        pushes: Whether its results are on the Hub.
    """

    name: str
    command: str
    arguments: tuple[str, ...]
    part: str
    results: tuple[str, ...] = ()
    pushes: bool = False


class DamagedPlace:
    """A tiny model, its runs, and copies of them that are damaged.

    Args:
        folder: Empty folder.
        hub: Local Hub, to which this process is logged in.
    """

    def __init__(self, folder, hub):
        self.folder, self.hub, self.place = folder, hub, folder / "place"
        self.model = folder / "clip"
        save_clip(*make("metaclip_2"), self.model)
        few = {"train": 24, "test": 12}
        self.tasks = [write_task_yaml(folder / "data", name, seed=seed, **few) for name, seed in (("a", 0), ("b", 7))]
        os.environ["HF_PAINT_CACHE"] = str(self.place / "cache")
        self._make("another", "--seed", "1")
        self._make("unfinished", interrupted=True)
        self._make("finished")
        theta_1 = StoredTower(self.place / "run" / "theta_1")
        self.places = {"another": folder / "another", "unfinished": folder / "unfinished"}
        for name, towers in (("patch", (StoredTower(self.model), theta_1)), ("other", (theta_1, theta_1))):
            save_patch(*towers, self.folder / name, base_model_id=None, alpha=0.5)
        self.expected = {}

    def _make(self, name, *flags, interrupted=False):
        """Run a recipe, and keep the place as it is then under a name."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            if interrupted:
                patch.setattr(PaintTrainer, "_save_checkpoint", _interrupted(PaintTrainer._save_checkpoint))
            code, printed = call(self.patch_arguments(*flags))
        if code != (130 if interrupted else 0):
            raise AssertionError(printed)
        shutil.copytree(self.place, self.folder / name)

    def patch_arguments(self, *flags):
        """The arguments of a run in the place."""
        return (
            *("patch", "--model", str(self.model), "--patching_tasks", self.tasks[0], "--supported_tasks"),
            *(self.tasks[1], "--alphas", "0", "0.5", "1", "--num_examples", "1", "--use_cpu", "--save_steps", "2"),
            *("--max_steps", "4", "--warmup_steps", "1", "--learning_rate", "1e-3", "--selection", "mean"),
            *("--per_device_train_batch_size", "8", "--output_dir", str(self.place / "run"), *flags),
        )

    def scenes(self):
        """All scenes: what is damaged, and a command that reads it."""
        run, base, output = str(self.place / "run"), str(self.model), str(self.place / "output")
        evaluate = ("evaluate", base, "--tasks", *self.tasks, "--use_cpu")
        return [
            Scene("finished run", "patch", self.patch_arguments(), "run", ("run",)),
            Scene("finished run", "select", ("select", run, "--alpha", "0.5"), "run", ("run",)),
            Scene(
                *("finished run", "push", ("push", run, "--repo_id", REPOSITORY, "--base_model_id", "o/clip"), "run"),
                pushes=True,
            ),
            Scene("finished run", "apply", ("apply", base, run, "--output_dir", output), "run", ("output",)),
            Scene("finished run", "evaluate", ("evaluate", run, "--use_cpu"), "run"),
            Scene("finished run", "report", ("report", run), "run", ("run/report.html",)),
            Scene("unfinished run", "patch", self.patch_arguments(), "run", ("run",)),
            Scene(
                *("patch", "apply", ("apply", base, str(self.place / "patch"), "--output_dir", output)),
                *("patch", ("output",)),
            ),
            Scene("cache", "evaluate", evaluate, "cache"),
        ]

    def begin(self, scene):
        """Make the place what it is before a command."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.folder / ("unfinished" if scene.name == "unfinished run" else "finished"), self.place)
        shutil.copytree(self.folder / "patch", self.place / "patch")
        if scene.pushes:
            with contextlib.suppress(Exception):  # there is none
                hf_api.api.delete_repo(REPOSITORY)

    def files(self, scene):
        """The files that may be damaged, as paths relative to the place."""
        self.begin(scene)
        files = sorted((self.place / scene.part).rglob("*"))
        return [
            path.relative_to(self.place).as_posix()
            for path in files
            if path.is_file() and not path.name.endswith(NOT_READ)
        ]

    def damages(self, scene, file):
        """The damages of a file: those of every file, and the one of the same name in another run, if it differs."""
        other = self.folder / ("other" if scene.part == "patch" else "another") / file.removeprefix("patch/")
        same = self.folder / ("patch" if scene.part == "patch" else "finished") / file.removeprefix("patch/")
        differs = other.is_file() and same.is_file() and other.read_bytes() != same.read_bytes()
        removable = "/examples/" in file  # people may remove pictures, which the report then does not show
        damages = {how: act for how, act in DAMAGES.items() if not (removable and how == "removed")}
        return damages | {REPLACED: replace_by(other)} if differs else damages

    def attempt(self, scene, file, how):
        """Damage a file, run the command, and raise an error if anything is lost.

        Either the results are those of the undamaged place, or the command ends with one line that names the file. It
        may also say that a plot or the answers to single images are missing, and leave them out of what it writes, but
        not out of records, choices and models.
        """
        expected = self.undamaged(scene)
        self.begin(scene)
        self.damages(scene, file)[how](self.place / file)
        code, printed = call(scene.arguments)
        last = (printed.splitlines() or [""])[-1]
        if "Traceback" in printed:
            raise AssertionError(f"a traceback: {printed[-2000:]}")
        if code:
            named = any(part in last for part in (Path(file).name, str(self.place / file)))
            if code not in (1, 2) or not last.startswith("hf-paint: ") or not named:
                raise AssertionError(f"exit code {code}, and the file is not named: {last}")
            return "refused"
        is_said = f"{Path(file).name} is missing, so" in printed
        if is_said and scene.pushes and is_one_of(DRAWN, Path(file).name):
            return "left out"
        found = self._results(scene, printed)
        wrong = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
        wrong = [name for name in wrong if not self._is_left(scene, file, name)]
        if wrong and is_said and is_one_of(PER_IMAGE, file.removeprefix("run/")) and not any(map(_is_result, wrong)):
            return "left out"
        if wrong:
            raise AssertionError(f"other results without a word: {', '.join(wrong[:4])}")
        return "the same"

    def undamaged(self, scene):
        """The results of the command if nothing is damaged."""
        key = scene.name, scene.command
        if key not in self.expected:
            self.begin(scene)
            code, printed = call(scene.arguments)
            if code:
                raise AssertionError(printed)
            self.expected[key] = self._results(scene, printed)
        return self.expected[key]

    def _is_left(self, scene, file, name):
        """Return whether a result that differs is the damaged file itself, which the command neither reads nor writes.

        Records and models, which are results, may not stay damaged.
        """
        own = name == file or name.startswith(f"{file}/")
        return own and not _is_result(file)

    def _results(self, scene, printed):
        """Name -> content, of all that a command leaves as its results."""
        if scene.pushes:
            branches = hf_api.api.list_repo_refs(REPOSITORY).branches
            trees = {b.name: hf_api.api.list_repo_tree(REPOSITORY, revision=b.name, recursive=True) for b in branches}
            return {f"{name} {x.path}": x.blob_id for name, tree in trees.items() for x in tree if "." in x.path[1:]}
        if not scene.results:
            table = [line for line in printed.splitlines() if line.startswith("|")]
            return {"printed": "\n".join(table)}
        found = {}
        for result in scene.results:
            root = self.place / result
            for path in [root] if root.is_file() else sorted(root.rglob("*")):
                name = path.relative_to(self.place).as_posix()
                if path.is_file() and not path.name.endswith(NOT_READ) and name != f"run/{MANIFEST}":
                    found[name] = _comparable(path)
        return found


def _is_result(name):
    """Return whether a file holds records, a choice or a model."""
    return name.endswith(("results.jsonl", "selection.json", "patched/model.safetensors"))


def call(arguments):
    """Run the command line in this process, and return its exit code and all that it printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main(list(arguments))
    return code, printed.getvalue()


@contextlib.contextmanager
def damaged_place(folder):
    """Make a place and a local Hub, to which this process is logged in."""
    with pytest.MonkeyPatch.context() as patch, HubServer(folder / "hub") as hub:
        blank_plots(patch)
        patch.setattr("hf_paint.results.run_folder.seal_run", seal_run)
        log_in(hub, patch, HF_HOME=os.environ["HF_HOME"])
        patch.setenv("HF_PAINT_CACHE", str(folder / "place" / "cache"))
        yield DamagedPlace(folder, hub)


def _comparable(path):
    """Return the content of a file without what depends on the time, and without the order of records."""
    content = path.read_bytes()
    if path.name == "selection.json":
        return {key: value for key, value in json.loads(content).items() if key not in ("history", "chosen_at")}
    return sorted(content.splitlines()) if path.suffix == ".jsonl" else content


def _interrupted(save):
    """Return a `_save_checkpoint` after which the training is interrupted."""

    def interrupt(self, *args):
        save(self, *args)
        raise KeyboardInterrupt

    return interrupt
