"""From run folders to tables, numbers and plots."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_paint.errors import InputError
from hf_paint.results.compared_models import Method, methods_of, notes_of, tasks_of
from hf_paint.results.comparison_tables import (
    change_numbers,
    change_tables,
    distance_table,
    method_numbers,
    method_table,
    pair_numbers,
    run_numbers,
    size_table,
)
from hf_paint.results.plots import plot_cosines, plot_methods, plot_trade_offs
from hf_paint.results.records import Role
from hf_paint.results.runs import Run, changes_of, read_runs
from hf_paint.weights.changes import WeightChanges


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Runs beside each other.

    Attributes:
        runs: The runs.
        split: The split whose accuracies are compared.
        tasks: The tasks of each role.
        methods: The rows of the table of methods against tasks.
        changes: Base -> what fine-tuning changed in its runs, where the weights are on this disk.
        notes: What a reader must know besides.
    """

    runs: Sequence[Run]
    split: str
    tasks: Mapping[Role, Sequence[str]]
    methods: Sequence[Method]
    changes: Mapping[str, WeightChanges]
    notes: Sequence[str]

    def to_markdown(self, plots: Sequence[str] = ()) -> str:
        """Return the tables, and links to plots that lie beside the text."""
        tables = {
            f"Accuracy on the {self.split} split, %": method_table(self.methods, self.tasks),
            "Distance to the specialised models, points": distance_table(self.methods, self.tasks),
        }
        if len({run.base for run in self.runs}) > 1:
            tables["Against the size of the model"] = size_table(self.runs, self.methods, self.changes, self.split)
        tables |= change_tables(self.changes)
        sections = [f"## {title}\n\n{table}" for title, table in tables.items() if table]
        sections += ["\n".join(f"- {note}" for note in self.notes), *(f"![{plot}]({plot})" for plot in plots)]
        return "\n\n".join(filter(None, sections)) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers, as JSON can hold them; accuracies and distances are fractions of 1."""
        return {
            "split": self.split,
            "tasks": {role: list(names) for role, names in self.tasks.items()},
            "methods": [method_numbers(method, self.methods, self.tasks) for method in self.methods],
            "runs": [run_numbers(run, self.split) for run in self.runs],
            "changes": [row for base, changes in self.changes.items() for row in change_numbers(base, changes)],
            "pairs": [row for base, changes in self.changes.items() for row in pair_numbers(base, changes)],
            "notes": list(self.notes),
        }

    def save(self, folder: str | Path) -> None:
        """Write `comparison.md`, `comparison.json` and the plots; those of an earlier comparison are replaced.

        Raises:
            InputError: If the folder is a file.
        """
        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise InputError(f"The output folder {folder} is a file.")
        path.mkdir(parents=True, exist_ok=True)
        plots = {
            "methods.png": plot_methods(self.methods, self.tasks, self.split),
            "trade_off.png": plot_trade_offs(self.runs, self.split),
            "cosines.png": plot_cosines(self.changes),
        }
        for name, figure in plots.items():
            (path / name).unlink(missing_ok=True)
            if figure is not None:
                figure.savefig(path / name)
        drawn = [name for name, figure in plots.items() if figure is not None]
        (path / "comparison.md").write_text(f"# Comparison\n\n{self.to_markdown(drawn)}", encoding="utf-8")
        (path / "comparison.json").write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def compare_runs(folders: Sequence[str | Path], *, split: str = "test") -> Comparison:
    """Compare runs of any strategies and bases: their accuracies, and what fine-tuning changed in the weights.

    No model is run and nothing is downloaded: the records and the weights in the folders are read.

    Args:
        folders: What `hf-paint patch` or `patch_single` wrote. The specialised model of a task is theta_1 of the first
            run that patched this task alone, without a `method` if there is such a run, or such a point of a parallel
            run.
        split: The split whose accuracies are compared, `test` or `validation`.

    Raises:
        InputError: If a folder is not that of a run, has nothing to show, or cannot be compared with the others.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path / "run", max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_single(model_folder, task, [other_task], args, alphas=[0.0, 0.5, 1.0])
        >>> comparison = compare_runs([tmp_path / "run"])
        >>> [method.name for method in comparison.methods][:2]
        ['zero-shot', 'specialised models']
    """
    runs = read_runs(folders, split=split)
    tasks = tasks_of(runs, split)
    methods = methods_of(runs, tasks, split)
    changes, missing = changes_of(runs)
    return Comparison(
        runs=runs,
        split=split,
        tasks=tasks,
        methods=methods,
        changes=changes,
        notes=[*notes_of(runs, methods, split), *missing],
    )
