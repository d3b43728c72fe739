"""The folder of a run: what belongs to which recipe, and files that are whole or not there."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from hf_paint.errors import InputError
from hf_paint.files import save_folder_atomically, write_json, write_text
from hf_paint.results.alphas import Alpha, format_alpha


PARTS_OF_A_RUN = (
    *("results.jsonl", "selection.json", "theta_1", "patched", "variants", "checkpoint-*"),
    *("step-*", "thetas", "order-*", "scores.json", "fisher", "theta_0", "head", "adapter"),
)
FREE_KEYS = (
    *("output_dir", "alphas", "sweep", "verify", "search", "search_budget", "baseline", "compare_ensemble"),
    *("num_examples", "use_cpu", "disable_tqdm", "gradient_checkpointing"),
    *("per_device_eval_batch_size", "report_to", "run_name", "push_to_hub"),
)
FREE_PREFIXES = ("dataloader_", "logging_", "save_steps", "save_total_limit", "hub_")
"""What a run may change when it goes on: keys that change no weight, and more alphas.

Not so in a sequential run: what a step chooses among decides where the next one starts.
"""


class RunFolder:
    """The files of one run.

    Args:
        path: The folder.
        write: Whether this process writes.
        recipe: The name of the recipe in it.

    Example:
        >>> RunFolder(tmp_path, write=True).theta_1.name
        'theta_1'
    """

    def __init__(self, path: str | Path, *, write: bool, recipe: str = "recipe.yaml") -> None:
        self.path = Path(path)
        self.write = write
        self.recipe = self.path / recipe
        self.selection = self.path / "selection.json"
        self.precision = self.path / "precision.json"
        self.card_facts = self.path / "card.json"
        self.curve_plot = self.path / "curve.png"
        self.theta_0 = self.path / "theta_0"
        self.robustness = self.path / "robustness.json"
        self.robustness_plot = self.path / "robustness.png"
        self.theta_1 = self.path / "theta_1"
        self.patched = self.path / "patched"
        self.adapter = self.path / "adapter"
        self.patched_adapter = self.path / "patched_adapter"
        self.scores = self.path / "scores.json"

    @property
    def plots(self) -> list[Path]:
        """The plots that a card shows."""
        return [plot for plot in (self.curve_plot, self.robustness_plot) if plot.exists()] + self.example_plots

    @property
    def example_plots(self) -> list[Path]:
        """The plots of images before and after patching."""
        return sorted(self.path.glob(example_plot("*")))

    def variant(self, alpha: Alpha) -> Path:
        """Return the folder of the model of one alpha."""
        return self.path / "variants" / f"alpha-{format_alpha(alpha)}"

    def step(self, number: int) -> "RunFolder":
        """Return the run folder of a step of sequential patching; the first is 1."""
        return RunFolder(self.path / f"step-{number}", write=self.write, recipe="step.yaml")

    def theta(self, name: str) -> "RunFolder":
        """Return the folder of one of several fine-tunings: on a task in parallel patching, or of an ingredient."""
        return RunFolder(self.path / "thetas" / name, write=self.write)

    def fisher(self, name: str) -> Path:
        """Return the file of the Fisher information of an end of the path, theta_0 or theta_1."""
        return self.path / "fisher" / f"{name}.safetensors"

    @property
    def head(self) -> "RunFolder":
        """The folder of the steps that train the head alone, where more follow them."""
        return RunFolder(self.path / "head", write=self.write)

    def check(self, recipe: Mapping[str, Any]) -> None:
        """Refuse a folder that holds the run of another recipe, or parts of a run without a recipe.

        Raises:
            InputError: If it does; the message names the keys that differ.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"The output folder {self.path} is a file.")
        if not self.recipe.exists():
            if any(next(self.path.glob(pattern), None) for pattern in PARTS_OF_A_RUN):
                raise InputError(f"{self.path} holds parts of a run but no recipe.yaml. Choose another output_dir.")
            return
        there = yaml.safe_load(self.recipe.read_text(encoding="utf-8")) or {}
        here = dict(recipe)
        changed = {key for key in there.keys() | here.keys() if there.get(key) != here.get(key)}
        fixed = {"alphas", "sweep"} if "sequential" in (there.get("strategy"), here.get("strategy")) else set()
        keys = sorted(key for key in changed if key in fixed or not _is_free(key))
        if keys:
            changes = ", ".join(
                f"{key}: {_brief(there.get(key))} there, {_brief(here.get(key))} here" for key in keys[:3]
            )
            raise InputError(
                f"{self.path} holds the run of another recipe ({changes}). Choose another output_dir, or remove it."
            )

    @contextmanager
    def claimed(self, recipe: Mapping[str, Any]) -> Iterator[None]:
        """Hold the folder for this run, and write the recipe by which a later run knows that the folder is its own.

        Raises:
            InputError: If another process holds it.
        """
        if not self.write:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.path / ".lock", timeout=0):
                write_text(self.recipe, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))
                yield
        except Timeout:
            raise InputError(
                f"Another process is at work in {self.path}. Wait for it, or choose another output_dir."
            ) from None

    def save_selection(self, selection: Mapping[str, Any]) -> None:
        """Write `selection.json`."""
        if self.write:
            write_json(self.selection, selection)

    def save_precision(self, check: Mapping[str, Any]) -> None:
        """Write `precision.json`, so that a run that goes on does not decide again."""
        if self.write:
            write_json(self.precision, check)

    def load_precision(self) -> Any:
        """Return the precision that this run decided for, or None."""
        return json.loads(self.precision.read_text())["precision"] if self.precision.exists() else None

    def save_card_facts(self, facts: Mapping[str, Any]) -> None:
        """Write `card.json`: what a card says that is neither in the records nor in the recipe."""
        if self.write:
            write_json(self.card_facts, facts)

    def save_robustness(self, tables: Mapping[str, Any]) -> None:
        """Write `robustness.json`: the tables of interpolated weights and of the output-space ensemble."""
        if self.write:
            write_json(self.robustness, tables)

    def save_folder(self, folder: Path, save: Callable[[Path], None]) -> None:
        """Let `save` fill a folder, which gets its name when it is complete; an older one is replaced."""
        if not self.write:
            return
        save_folder_atomically(folder, save)

    def last_checkpoint(self) -> str | None:
        """Return the newest checkpoint that was written to its end, or None."""
        states = [path.parent for path in self.path.glob("checkpoint-*/trainer_state.json")]
        steps = {int(match[1]): path for path in states if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))}
        whole = [step for step, path in steps.items() if (path / "scheduler.pt").exists()]  # as every wrapper names it
        return str(steps[max(whole)]) if whole else None


def _is_free(key: str) -> bool:
    return key in FREE_KEYS or key.startswith(FREE_PREFIXES)


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def example_plot(task: str) -> str:
    """Return the file name of the plot of images of a task before and after patching."""
    return f"examples-{task}.png"
