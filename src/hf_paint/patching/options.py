"""Options and result of a patching run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.evaluation.precision import PrecisionChoice
from hf_paint.merging.registry import MethodLike
from hf_paint.results.alphas import Alpha, format_alpha
from hf_paint.results.changed_images import NUM_EXAMPLES
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.notebooks import curve_html, describe_change
from hf_paint.results.outcome import Outcome
from hf_paint.results.outcome_text import summarise
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.search import SearchMethod
from hf_paint.tasks.registry import TaskLike
from hf_paint.training.callbacks import CallbackLike


Selection = Literal["mean", "supported_within", "entropy", "none"]
SaveDtype = Literal["float32", "bfloat16", "float16"]
MergeOfSteps = Literal["sequential", "projection"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchOptions:
    """Options that most runs leave at their defaults.

    Attributes:
        transfer_tasks: Tasks (see `get_task`) that are evaluated but not used for selection, to measure broad
            transfer.
        replay_tasks: Tasks whose train images are mixed into every training, so that the model does not forget them;
            supported tasks or others. The training argument `replay_share` says how many.
        shift_tasks: Tasks that are evaluated but not used for selection, to measure robustness to distribution shift.
        model_revision: Branch, tag or commit of the model on the Hub.
        save_variants: Also save the model at every alpha.
        save_dtype: Dtype of the saved models: `float32`, `bfloat16` or `float16`; by default, the dtype of the base.
        base_model_id: Hub repository id for the card, if the base is loaded from a folder.
        precision: Precision of evaluation; `auto` uses `bf16` if it is faster and agrees with `fp32` on a sample.
        max_eval_images: Maximum number of images to evaluate per split of a task, drawn by class and always the same;
            by default, all. For quick runs: the intervals become wider.
        sweep: `full` evaluates every alpha on every image; `adaptive` skips images on which neighbouring alphas agree.
        verify: With `sweep="adaptive"`, also run a full sweep and report the errors of the adaptive one.
        base_fingerprint: Expected fingerprint of the base's image tower; a different base raises an error.
        processor: Processor of a model in memory; by default, loaded from the model's `name_or_path`.
        method: Method that computes theta_1 from the fine-tuned weights, and the path from theta_0 to theta_1; a name
            or `{name: {option: value}}`.
        ingredients: Models to fine-tune and merge, each given as a mapping from training fields to values. Lists
            expand to all combinations: `{"learning_rate": [1e-5, 3e-5], "seed": [0, 1]}` is four models.
        extrapolate: Allow alphas outside [0, 1].
        thetas: Fine-tuned models to use instead of training, each a folder or a Hub repository id. Keys are task names
            in parallel patching, and arbitrary names otherwise.
        search: Coefficient search in parallel patching: `cobyqa` or `random`.
        search_budget: Maximum number of combinations to evaluate in parallel patching or, with `method="auto"`, of
            merges.
        baseline: (reference, shift) accuracies of models trained on the reference only, to compute effective
            robustness in a run with shift tasks.
        num_examples: Maximum number of images per task to save and plot with predictions before and after patching.
            The tasks of a run share 60 images.
        compare_ensemble: Also evaluate the output-space ensemble of theta_0 and theta_1 at every alpha.
        num_orders: Number of random task orders to run and average in sequential patching. With 1, tasks are patched
            in the given order.
        merge: How sequential patching adds a task: `sequential` fine-tunes the patched model of the previous step;
            `projection` fine-tunes theta_0 and merges the result with those of the previous steps (OPCM, see
            `merge_by_projection`).
        callbacks: Callbacks of `transformers.Trainer` for every training of the run; each training makes its own of a
            class. They are code, so the recipe does not record them: pass the same ones to resume a run.
    """

    transfer_tasks: Sequence[TaskLike] = ()
    shift_tasks: Sequence[TaskLike] = ()
    replay_tasks: Sequence[TaskLike] = ()
    model_revision: str = "main"
    save_variants: bool = False
    save_dtype: SaveDtype | None = None
    base_model_id: str | None = None
    precision: PrecisionChoice = "fp32"
    max_eval_images: int | None = None
    sweep: Literal["full", "adaptive"] = "full"
    verify: bool = False
    base_fingerprint: str | None = None
    processor: ProcessorMixin | None = None
    method: MethodLike = "interpolate"
    ingredients: Sequence[Mapping[str, object]] = ()
    extrapolate: bool = False
    thetas: Mapping[str, str] = field(default_factory=dict)
    search: SearchMethod = "cobyqa"
    search_budget: int = 50
    baseline: Sequence[tuple[float, float]] = ()
    num_examples: int = NUM_EXAMPLES
    compare_ensemble: bool = False
    num_orders: int = 1
    merge: MergeOfSteps = "sequential"
    callbacks: Sequence[CallbackLike] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchResult:
    """The result of a patching run.

    Attributes:
        alpha: Chosen alpha, or a mapping from task to coefficient after sequential or parallel patching; None with
            `selection="none"`.
        curve: Accuracy of every task at every alpha.
        run_folder: Path to the run folder.
        model: Patched model as saved, on the CPU; None if no alpha was chosen.
    """

    alpha: Alpha | None
    curve: AlphaCurve
    run_folder: Path
    model: PreTrainedModel | None

    def __repr__(self) -> str:
        what = "no alpha chosen" if self.alpha is None else describe_change(self.curve, self.alpha)
        return f"PatchResult({what}; run_folder={str(self.run_folder)!r})"

    def _repr_html_(self) -> str:
        try:
            what = self.summary
        except (InputError, OSError):  # the run folder was moved or removed
            what = "" if self.alpha is None else f"alpha {format_alpha(self.alpha)} chosen"
        folder = escape(str(self.run_folder))
        return f"{curve_html(self.curve, self.alpha, claim=what)}<p>Run folder: {folder}</p>"

    @property
    def outcome(self) -> Outcome:
        """What happened to each task, and what another rule would choose."""
        return Outcome.from_run(self.run_folder)

    @property
    def summary(self) -> str:
        """What happened, as one sentence."""
        return summarise(self.outcome, run=self.run_folder)

    @property
    def report(self) -> Path:
        """Path to the report, an HTML page."""
        return RunFolder(self.run_folder).report

    @property
    def patched(self) -> Path:
        """Path to the folder of the patched model."""
        return RunFolder(self.run_folder).patched
