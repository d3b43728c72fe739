"""What a report reads of a run: everything that the run recorded, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

from hf_paint.errors import InputError
from hf_paint.files import expand
from hf_paint.results.alphas import Alpha, Coefficients, in_order, is_unpatched, variant_name
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.details import Details
from hf_paint.results.details_log import RunDetails
from hf_paint.results.outcome import Outcome
from hf_paint.results.pictures import TaskPictures, read_pictures
from hf_paint.results.records import Result
from hf_paint.results.run_files import ENSEMBLE, RECIPE, STEP_RECIPE
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.runs import Run, read_chosen, read_records, short_names
from hf_paint.results.selection import Selection
from hf_paint.results.single_models import read_single_models
from hf_paint.results.stored import CardFacts, read_named_tasks


@dataclass(frozen=True, kw_only=True, eq=False)
class Recorded:
    """A run as its folder records it.

    Attributes:
        run: Recipe, records and chosen alpha.
        facts: Contents of `card.json`; empty for an unfinished run and for a step.
        selection: Contents of `selection.json`, or None if no alpha was selected.
        details: Calibration, confusion and candidates; a run of an earlier version has none.
        class_names: Task -> class names in the order of the logits.
        templates: Task -> prompt templates.
        pictures: Task -> example pictures.
        ensemble: Curve of the output-space ensemble, if it was evaluated.
    """

    run: Run
    facts: CardFacts
    selection: Selection | None
    details: RunDetails
    class_names: Mapping[str, Sequence[str]]
    templates: Mapping[str, Sequence[str]]
    pictures: Mapping[str, TaskPictures]
    ensemble: AlphaCurve | None = None

    @property
    def curve(self) -> AlphaCurve:
        """Records of the run."""
        return self.run.curve

    @property
    def files(self) -> RunFolder:
        """Run folder."""
        return self.run.files

    @property
    def is_finished(self) -> bool:
        """Whether the run chose an alpha, or was not asked to and has drawn its curve."""
        has_curve = self.run.recipe.get("selection") == "none" and self.files.curve_plot.is_file()
        return self.selection is not None or has_curve

    @property
    def is_search(self) -> bool:
        """Whether the points are combinations of coefficients in no order, evaluated on validation images."""
        return self.run.strategy == "parallel" and any(isinstance(alpha, Coefficients) for alpha in self.curve.alphas)

    @property
    def split(self) -> str:
        """Split whose accuracies are shown: the one on which every point was evaluated, `test` if it was."""
        return "validation" if self.is_search else self.curve.reported_split

    @cached_property
    def outcome(self) -> Outcome | None:
        """What the chosen alpha gained and lost; None for an unfinished run."""
        return Outcome.of(self.curve, self.selection, self.run.recipe) if self.is_finished else None

    @cached_property
    def points(self) -> tuple[Alpha, ...]:
        """The measured points, alpha 0 first among the combinations.

        They are those with a record of every patching and supported task or, while there is none, of any task. A
        combination whose coefficients are all 0 is alpha 0.
        """
        found = [0.0, *(self.curve.points(self.split) or self.curve.alphas)]
        chosen = [] if self.run.chosen is None else [self.run.chosen]
        return in_order(0.0 if is_unpatched(alpha) else alpha for alpha in [*found, *chosen])

    @property
    def zero_shot(self) -> int:
        """Position of alpha 0 among the points."""
        return self.points.index(0.0)

    @property
    def chosen(self) -> int | None:
        """Position of the chosen point, if any."""
        alpha = self.run.chosen
        return None if alpha is None else self.points.index(0.0 if is_unpatched(alpha) else alpha)

    def details_of(self, records: Sequence[Result | None]) -> list[Details | None]:
        """Return the details of each record, or None for one that is missing or has none."""
        return [None if record is None else self.details.of(record) for record in records]

    @cached_property
    def branches(self) -> list[str]:
        """For each point, the branch that `hf-paint push` gives it; empty if it gets none."""
        exact, names = set(self.curve.exact_alphas), []
        for alpha in self.points:
            if isinstance(alpha, Coefficients) and self.is_search:
                names.append("main" if alpha == self.run.chosen else "")
            else:
                is_step = self.run.strategy != "sequential" or isinstance(alpha, Coefficients)
                names.append(variant_name(alpha) if is_step and alpha in exact else "")
        return names


def read_recorded(folders: Sequence[str | Path]) -> list[Recorded]:
    """Read runs from their folders; a folder with several task orders stands for the runs in it.

    Raises:
        InputError: If a folder contains no run, or a run without records, or is given twice.
    """
    paths = [path for folder in folders for path in _with_orders(expand(folder).resolve())]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"The run folder {path} is given twice. Remove one of them.")
    return [_read(path, name) for path, name in zip(paths, short_names(list(map(str, paths))), strict=True)]


def _with_orders(path: Path) -> list[Path]:
    orders = RunFolder(path).load_orders()
    return [path] if orders is None else [RunFolder(path).order(1 + i).path for i in range(len(orders["orders"]))]


def _read(path: Path, name: str) -> Recorded:
    files = RunFolder(path, recipe_name=STEP_RECIPE if (path / STEP_RECIPE).is_file() else RECIPE)
    if files.recipe.is_file() and not files.results.is_file():
        raise InputError(
            f"The run in {path} has no records yet: it lacks {files.results.name}, which its sweep writes after the "
            "training. Run the same `hf-paint patch` again to finish it."
        )
    recipe, curve = read_records(files)
    if 0.0 not in curve.alphas:
        raise InputError(
            f"The run in {path} has no record at alpha 0 yet, so nothing can be compared with the unpatched model. "
            "Run the same `hf-paint patch` again to finish it."
        )
    facts, tasks = files.load_card_facts() or CardFacts(), read_named_tasks(files.tasks)
    ensemble = AlphaCurve.from_run(path, name=ENSEMBLE) if (path / ENSEMBLE).is_file() else None
    return Recorded(
        run=Run(
            name=name,
            base=str(facts.get("base_model_id") or PurePath(str(recipe["model"])).name),
            files=files,
            recipe=recipe,
            curve=curve,
            chosen=read_chosen(files, curve),
            single_models=read_single_models(path, curve),
        ),
        facts=facts,
        selection=files.load_selection(),
        details=RunDetails.of_run(path),
        class_names={task["name"]: task["class_names"] for task in tasks},
        templates={task["name"]: task.get("templates", []) for task in tasks},
        pictures=read_pictures(path),
        ensemble=ensemble,
    )
