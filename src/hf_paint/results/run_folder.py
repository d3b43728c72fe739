"""Run folders: file names, locking, and reading and writing of small files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Self

import yaml

from hf_paint.documents.reading import Json, read_recipe
from hf_paint.documents.shapes import read_shaped, shaped
from hf_paint.errors import InputError
from hf_paint.files import check_writable, write_json, write_text
from hf_paint.results import checkpoints, resuming, run_files
from hf_paint.results.alphas import Alpha, variant_name
from hf_paint.results.history import with_history
from hf_paint.results.locks import working_in
from hf_paint.results.seals import break_seal, seal_run
from hf_paint.results.selection import Selection
from hf_paint.results.stored import AGAIN, CardFacts, ChosenOneDNN, ChosenPrecision, OrdersSummary, StoredRecipe
from hf_paint.weights.folders import TASKS
from hf_paint.weights.manifest import save_folder_sealed


class RunFolder:
    """Paths to the files of a run, with methods to read and write them.

    Args:
        path: Path to the run folder.
        write: Whether this process writes to the folder.
        recipe_name: File name of the recipe.

    Example:
        >>> RunFolder(tmp_path).theta_1.name
        'theta_1'
    """

    def __init__(self, path: str | Path, *, write: bool = False, recipe_name: str = run_files.RECIPE) -> None:
        self.path: Path = Path(path)
        self.write = write
        self.recipe: Path = self.path / recipe_name
        self.identity: Path = self.path / run_files.IDENTITY
        self.results: Path = self.path / run_files.RESULTS
        self.selection: Path = self.path / run_files.SELECTION
        self.tasks: Path = self.path / TASKS
        self.precision: Path = self.path / run_files.PRECISION
        self.onednn: Path = self.path / run_files.ONEDNN
        self.card_facts: Path = self.path / run_files.CARD_FACTS
        self.curve_plot: Path = self.path / run_files.CURVE_PLOT
        self.accuracy_plot: Path = self.path / run_files.ACCURACY_PLOT
        self.per_class_plot: Path = self.path / run_files.PER_CLASS_PLOT
        self.theta_0: Path = self.path / "theta_0"
        self.theta_1: Path = self.path / "theta_1"
        self.patched: Path = self.path / "patched"
        self.adapter: Path = self.path / "adapter"
        self.patched_adapter: Path = self.path / "patched_adapter"
        self.robustness: Path = self.path / run_files.ROBUSTNESS
        self.robustness_plot: Path = self.path / run_files.ROBUSTNESS_PLOT
        self.scores: Path = self.path / run_files.SCORES
        self.coefficients: Path = self.path / run_files.COEFFICIENTS
        self.grams: Path = self.path / "grams"
        self.orders: Path = self.path / run_files.ORDERS
        self.changes: Path = self.path / run_files.CHANGES
        self.report: Path = self.path / run_files.REPORT
        self.data: Path = self.path / "data"
        self.examples: Path = self.path / run_files.EXAMPLES

    @property
    def plots(self) -> list[Path]:
        """Paths to the plots shown on the model card, all PNG files."""
        return [plot for plot in self.measured_plots if plot.exists()] + self.example_plots

    @property
    def measured_plots(self) -> list[Path]:
        """Paths to the plots of what was measured, whether they exist or not. Each has an SVG file beside it."""
        return [self.curve_plot, self.accuracy_plot, self.per_class_plot, self.robustness_plot]

    @property
    def example_plots(self) -> list[Path]:
        """Paths to the plots of example images before and after patching."""
        return sorted(self.path.glob(run_files.example_plot("*")))

    @property
    def head(self) -> Self:
        """Folder for the phase that trains the head alone, before joint training."""
        return self._inner("head")

    def variant(self, alpha: Alpha) -> Path:
        """Return the path to the model for one alpha."""
        return self.path / "variants" / variant_name(alpha)

    def step(self, number: int) -> Self:
        """Return the folder for one step of sequential patching, counted from 1."""
        return self._inner(f"step-{number}", recipe_name=run_files.STEP_RECIPE)

    def order(self, number: int) -> Self:
        """Return the folder for the run with one of several task orders, counted from 1."""
        return self._inner(f"order-{number}")

    def theta(self, name: str) -> Self:
        """Return the folder for one of several fine-tuned models: a task in parallel patching, or an ingredient."""
        return self._inner(f"thetas/{name}")

    def fisher(self, name: str) -> Path:
        """Return the path to the Fisher information of `theta_0` or `theta_1`."""
        return self.path / "fisher" / f"{name}.safetensors"

    def _inner(self, name: str, *, recipe_name: str = run_files.RECIPE) -> Self:
        return type(self)(self.path / name, write=self.write, recipe_name=recipe_name)

    def check(self, recipe: Mapping[str, object]) -> None:
        """Check that the folder does not contain a run with a different recipe, or parts of a run without a recipe.

        Raises:
            InputError: If the folder contains such a run. The message lists the keys that differ.
        """
        check_writable(self.path)
        if not self.recipe.exists():
            if self.has_parts():
                raise InputError(
                    f"{self.path} contains parts of a run but no {run_files.RECIPE}. Choose another output_dir."
                )
            return
        stored = self.load_recipe()
        if keys := resuming.conflicts(stored, recipe):
            changed = resuming.describe(keys, stored, recipe)
            raise InputError(
                f"{self.path} contains a run with a different {self.recipe.name} ({changed}). Choose another folder, "
                f"for example --output_dir {self.path}-2, or remove this one."
            )

    def has_parts(self) -> bool:
        """Return whether the folder contains parts of a run other than its recipe."""
        return any(next(self.path.glob(pattern), None) for pattern in run_files.PARTS_OF_A_RUN)

    @contextmanager
    def claimed(self, recipe: Mapping[str, object]) -> Iterator[None]:
        """Lock the folder for this run, and write the recipe, which identifies the run when it is resumed.

        Raises:
            InputError: If another process has locked the folder.
        """
        if not self.write:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with working_in(self.path):
            break_seal(self.path)
            self.check(recipe)  # again, because another process may have run here since
            self.save_recipe(recipe)
            yield
            seal_run(self.path)

    def save_recipe(self, recipe: Mapping[str, object]) -> None:
        """Write the recipe of the run."""
        if self.write:
            write_text(self.recipe, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))

    def save_selection(self, selection: Mapping[str, object]) -> None:
        """Write `selection.json`, which keeps the history of the folder."""
        self._save(self.selection, with_history(selection, self.selection))

    def save_precision(self, check: Mapping[str, object]) -> None:
        """Write `precision.json`."""
        self._save(self.precision, check)

    def save_onednn(self, chosen: bool) -> None:
        """Write `onednn.json`, which says whether oneDNN computes the linear layers of this run."""
        self._save(self.onednn, {"onednn": chosen})

    def save_card_facts(self, facts: Mapping[str, object]) -> None:
        """Write `card.json`, with the facts that the model card needs in addition to the records and the recipe."""
        self._save(self.card_facts, facts)

    def save_robustness(self, tables: Mapping[str, object]) -> None:
        """Write `robustness.json`, with the tables for interpolated weights and for the output-space ensemble."""
        self._save(self.robustness, tables)

    def save_coefficients(self, coefficients: Mapping[str, object]) -> None:
        """Write `coefficients.json`: group of tensors -> model -> coefficient, as a merging method learned them."""
        self._save(self.coefficients, coefficients)

    def save_orders(self, summary: Mapping[str, object]) -> None:
        """Write `orders.json`, with averages over several task orders."""
        self._save(self.orders, summary)

    def _save(self, path: Path, value: Mapping[str, object]) -> None:
        if self.write:
            write_json(path, value)

    def save_folder(self, folder: Path, save: Callable[[Path], None]) -> None:
        """Call `save` with a temporary folder, which replaces any existing one once it is complete and sealed."""
        if self.write:
            save_folder_sealed(folder, save)

    def load_recipe(self) -> Json:
        """Return the resolved recipe.

        Raises:
            InputError: If the recipe cannot be read, or holds values that no run writes.
        """
        recipe = read_recipe(self.recipe)
        shaped(recipe, StoredRecipe, str(self.recipe), advice="Restore it from a copy.")
        return recipe

    def load_selection(self) -> Selection | None:
        """Return the contents of `selection.json`, or None if no alpha was selected."""
        return read_shaped(self.selection, Selection, advice=AGAIN)

    def load_card_facts(self) -> CardFacts | None:
        """Return the facts stored for the model card, or None if the run is not finished."""
        return read_shaped(self.card_facts, CardFacts, advice=AGAIN)

    def load_robustness(self) -> dict[str, Json | None] | None:
        """Return the robustness tables, or None if the run has no shift tasks."""
        return read_shaped(self.robustness, dict[str, dict[str, object] | None], advice=AGAIN)

    def load_coefficients(self) -> dict[str, dict[str, float]]:
        """Return the coefficients that a merging method learned: group of tensors -> model -> coefficient."""
        return read_shaped(self.coefficients, dict[str, dict[str, float]], advice=AGAIN) or {}

    def load_orders(self) -> OrdersSummary | None:
        """Return the averages over several task orders, or None if the run has one order."""
        return read_shaped(self.orders, OrdersSummary, advice=AGAIN)

    def load_precision(self) -> Literal["fp32", "bf16"] | None:
        """Return the precision chosen by this run, so that a resumed run uses the same one, or None."""
        choice = read_shaped(self.precision, ChosenPrecision, advice=AGAIN)
        return None if choice is None else choice["precision"]

    def load_onednn(self) -> bool | None:
        """Return whether oneDNN computes the linear layers of this run, also when it is resumed, or None."""
        choice = read_shaped(self.onednn, ChosenOneDNN, advice=AGAIN)
        return None if choice is None else choice["onednn"]

    def last_checkpoint(self, needed: Sequence[str] = (), *, best: bool = False) -> str | None:
        """Return the path to the latest checkpoint that is whole and has these files, or None.

        With `best`, the best checkpoint so far must be whole too.
        """
        checkpoint = checkpoints.last_checkpoint(self.path, needed, best=best, warn=self.write)
        return None if checkpoint is None else str(checkpoint)
