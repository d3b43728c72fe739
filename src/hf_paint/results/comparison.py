"""Compare runs in tables, numbers and plots."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError
from hf_paint.files import write_json, write_text
from hf_paint.results.compared_models import ComparedModel, check_comparable, models_of, notes_of, tasks_of
from hf_paint.results.comparison_tables import (
    change_numbers,
    change_tables,
    distance_table,
    mean_columns,
    method_numbers,
    method_table,
    normalised_table,
    pair_numbers,
    published_table,
    run_numbers,
    size_table,
)
from hf_paint.results.published import Published, published_for
from hf_paint.results.records import Role
from hf_paint.results.runs import Run, changes_of, read_runs
from hf_paint.weights.changes import WeightChanges


if TYPE_CHECKING:
    from hf_paint.results.plots.style import Plot

ComparisonKind = Literal["methods", "trade_off", "cosines"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Comparison of the accuracies and weights of several runs.

    Attributes:
        runs: Runs to compare.
        split: Split to compare accuracies on.
        tasks: Role -> tasks.
        methods: Models to compare, one per row.
        published: (base, numbers that others published for it on built-in tasks) for each such row.
        changes: Base -> weight changes in its runs, for bases whose weights are on this disk.
        notes: Notes on the tables.
    """

    runs: Sequence[Run]
    split: str
    tasks: Mapping[Role, Sequence[str]]
    methods: Sequence[ComparedModel]
    published: Sequence[tuple[str, Published]]
    changes: Mapping[str, WeightChanges]
    notes: Sequence[str]

    def to_markdown(self, plots: Sequence[str] = ()) -> str:
        """Return the tables and notes as Markdown, with links to plots in the same folder."""
        tables = {
            f"Accuracy on the {self.split} split, %": method_table(self.methods, self.tasks),
            "Distance to the specialised models, points": distance_table(self.methods, self.tasks),
            "Normalised accuracy: accuracy divided by that of the specialised model, %": normalised_table(
                self.methods, self.tasks
            ),
            "Published accuracy, %, not measured in these runs": published_table(self.published, self.tasks),
        }
        if len({run.base for run in self.runs}) > 1:
            tables["Against the size of the model"] = size_table(self.runs, self.methods, self.changes, self.split)
        tables |= change_tables(self.changes)
        sections = [f"## {title}\n\n{table}" for title, table in tables.items() if table]
        sections += ["\n".join(f"- {note}" for note in self.notes), *(f"![{plot}]({plot})" for plot in plots)]
        return "\n\n".join(filter(None, sections)) + "\n"

    def to_dict(self) -> Json:
        """Return all numbers as plain values, with accuracies and distances as fractions of 1."""
        return {
            "split": self.split,
            "tasks": {role: list(names) for role, names in self.tasks.items()},
            "methods": [method_numbers(method, self.methods, self.tasks) for method in self.methods],
            "published": [{"base": base, **asdict(row)} for base, row in self.published],
            "runs": [run_numbers(run, self.split) for run in self.runs],
            "changes": [row for base, changes in self.changes.items() for row in change_numbers(base, changes)],
            "pairs": [row for base, changes in self.changes.items() for row in pair_numbers(base, changes)],
            "notes": list(self.notes),
        }

    def plot(self, kind: ComparisonKind = "methods") -> "Plot | None":
        """Return a plot, which shows itself in notebooks.

        Args:
            kind: `methods` (accuracy of every model), `trade_off` (patching against supported accuracy, one line per
                run), or `cosines` (how far each model turned the weights of each layer).

        Returns:
            The plot, or None if there is nothing to show: no run has both patching and supported tasks, or no weights
            are on this disk.
        """
        from hf_paint.results.plots.comparison import draw_cosines, draw_methods, draw_trade_offs

        if kind == "trade_off":
            return draw_trade_offs(self.runs, self.split)
        if kind == "cosines":
            return draw_cosines(self.changes)
        columns = {task: [task] for names in self.tasks.values() for task in names} | mean_columns(self.tasks)
        return draw_methods(self.methods, columns, self.split)

    def save(self, folder: str | Path) -> None:
        """Write `comparison.md`, `comparison.json` and the plots, replacing any from an earlier comparison.

        Raises:
            InputError: If the output folder is a file.
        """
        from hf_paint.results.plots.files import save_plots

        path = Path(folder)
        if path.exists() and not path.is_dir():
            raise InputError(f"The output folder {folder} is a file. Choose another folder.")
        path.mkdir(parents=True, exist_ok=True)
        plots = {f"{kind}.png": self.plot(kind) for kind in get_args(ComparisonKind)}
        save_plots(path, plots)
        names = [name for name, plot in plots.items() if plot is not None]
        write_text(path / "comparison.md", f"# Comparison\n\n{self.to_markdown(names)}")
        write_json(path / "comparison.json", self.to_dict())


def compare_runs(folders: Sequence[str | Path], *, split: str = "test") -> Comparison:
    """Compare the accuracies and weight changes of runs, which can have different strategies and base models.

    This only reads records and weights from disk. No model is run, and nothing is downloaded.

    Args:
        folders: Run folders to compare. The specialised model for a task is theta_1 from the first run that patched
            only this task, preferably without a `method`, or the corresponding model from a parallel run.
        split: Split to compare accuracies on, `test` or `validation`.

    Returns:
        Accuracies, weight changes and notes; `to_markdown()` returns them as tables.

    Raises:
        InputError: If a folder is not a run folder, or if a run has no model to show or no task in common with the
            other runs.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path / "run", max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_single(model_folder, task, [other_task], args, alphas=[0.0, 0.5, 1.0])
        >>> comparison = compare_runs([tmp_path / "run"])
        >>> [method.name for method in comparison.methods][:2]
        ['zero-shot', 'specialised models']
    """
    runs = read_runs(folders, split=split)
    tasks = tasks_of(runs, split)
    models = models_of(runs, tasks, split)
    check_comparable(runs, models, split)
    changes, missing = changes_of(runs)
    return Comparison(
        runs=runs,
        split=split,
        tasks=tasks,
        methods=models,
        published=published_for(runs, split),
        changes=changes,
        notes=[*notes_of(runs, models, split), *missing],
    )
