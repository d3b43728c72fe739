"""What a run leaves behind once it is evaluated: the selection, the plot, the patched model with its card."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor

from hf_paint.evaluation.ensembles import evaluate_ensemble
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.examples import choose_images, describe_choice, make_examples, plot_examples, probabilities
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.hub.card import environment
from hf_paint.hub.card_source import CardSource, license_of
from hf_paint.hub.card_text import alpha_phrase
from hf_paint.hub.model_card import render_model_card
from hf_paint.models.towers import with_weights
from hf_paint.patching.lora import save_patched_adapter
from hf_paint.patching.options import PatchResult
from hf_paint.patching.run import PatchRun
from hf_paint.repositories import is_repo_id
from hf_paint.results.alphas import Alpha, Coefficients, alpha_to_json
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.plots import plot_robustness, plot_trade_off
from hf_paint.results.records import ResultLog
from hf_paint.results.robustness import fit_baseline
from hf_paint.results.robustness_table import robustness_table
from hf_paint.results.run_folder import ENSEMBLE, example_plot
from hf_paint.training.training_args import accelerator_for


def finish(
    run: PatchRun,
    curve: AlphaCurve,
    weights_at: Callable[[Any], Mapping[str, Tensor]],
    *,
    alpha: Alpha | None = None,
    plot_split: str | None = None,
    card: bool = True,
    ensemble: AlphaCurve | None = None,
) -> PatchResult:
    """Choose alpha, and write the selection, the plots, the patched model with its card, and the variants.

    Args:
        run: The run.
        curve: What was evaluated.
        weights_at: Returns the image tower of an alpha.
        alpha: What is to be saved, where it is chosen already; coefficients have no variants.
        plot_split: The split of the plot, if it is to show a search and not a line.
        card: Give the patched model a card; without one it is a step on the way, and is not published.
        ensemble: The curve of the output-space ensemble, to be shown beside.
    """
    split = curve.reported_split
    if alpha is None and run.selection != "none":
        alpha = run.choose(curve)
    weights: Mapping[str, Tensor] = {} if alpha is None else weights_at(alpha)
    examples = {} if alpha is None or not card else save_examples(run, curve, alpha, weights, split=split)
    for variant in curve.alphas if run.options.save_variants and not isinstance(alpha, Coefficients) else ():
        _save_model(run, run.folder.variant(variant), weights_at(variant))
    if alpha is not None:
        run.folder.save_selection(_selection(run, curve, alpha, split))
    if run.folder.write:
        shown: dict[str, Any] = {"split": plot_split or split, "selected": alpha, "connected": plot_split is None}
        plot_trade_off(curve, run.folder.curve_plot, **shown, ensemble=ensemble, fine_tuned_label=run.method.end)
    save_robustness(run, curve, selected=alpha, ensemble=ensemble)
    if alpha is not None:
        if card:
            run.folder.save_card_facts(_card_facts(run) | {"examples": examples})
        if run.args.use_peft:
            save_patched_adapter(run, alpha)
        _save_model(run, run.folder.patched, weights, card=card)
    PartialState().wait_for_everyone()
    model = None if alpha is None else with_weights(run.model, weights, run.save_dtype)
    return PatchResult(alpha=alpha, curve=curve, run_folder=run.folder.path, model=model)


def _save_model(run: PatchRun, folder: Path, weights: Mapping[str, Tensor], *, card: bool = False) -> None:
    """Save a complete CLIP repository, rounded once to the dtype of the base or of `save_dtype`."""

    def save(path: Path) -> None:
        run.save(path, weights, run.save_dtype)
        if card:
            (path / "README.md").write_text(render_model_card(CardSource.from_run(run.folder)), encoding="utf-8")
            for plot in run.folder.plots:
                (path / plot.name).write_bytes(plot.read_bytes())

    run.folder.save_folder(folder, save)


def _selection(run: PatchRun, curve: AlphaCurve, alpha: Alpha, split: str) -> dict[str, Any]:
    """Return what `selection.json` holds."""
    return {
        "alpha": alpha_to_json(alpha),
        "rule": run.selection,
        "tolerance": run.tolerance,
        "num_alphas": len(curve.points("validation")) if run.recipe.get("strategy") != "sequential" else None,
        "chosen_on": "validation" if run.selection != "none" else None,
        "reported_on": split,
        "gains": [asdict(gain) for gain in curve.gains(alpha, split)],
    }


def _card_facts(run: PatchRun) -> dict[str, Any]:
    return {
        "class_names": list(run.tasks[0].class_names[:3]),
        "base_model_id": run.options.base_model_id or (run.base if is_repo_id(run.base) else None),
        "base_license": license_of(run.base),
        "save_dtype": str(run.save_dtype).removeprefix("torch."),
        "model_type": run.model.config.model_type,
        "plot": run.folder.curve_plot.name,
        "versions": environment(),
    }


def save_examples(
    run: PatchRun, curve: AlphaCurve, alpha: Alpha, weights: Mapping[str, Tensor], *, split: str
) -> dict[str, str]:
    """Plot a few images of every task, but those of distribution shift, with what two models say about them.

    Args:
        run: The run.
        curve: What was evaluated.
        alpha: What was chosen.
        weights: The image tower of that alpha.
        split: The split of the images.

    Returns:
        Task -> how its images were chosen.
    """
    for stale in run.folder.example_plots if run.folder.write else ():
        stale.unlink()
    chosen = _choose(run, curve, alpha, split)
    if not chosen:
        return {}
    evaluator = Evaluator(accelerator_for(run.args))
    before, after = (
        [probabilities(evaluator, tower, task, split, indices) for task, indices, _ in chosen]
        for tower in map(run.tower_with, (run.theta_0, weights))
    )
    patched = f"patched ({alpha_phrase(alpha)})"
    for (task, indices, caption), *said in zip(chosen, before, after, strict=True):
        if run.folder.write:
            examples = make_examples(task, split, indices, before=said[0], after=said[1])
            path, title = run.folder.path / example_plot(task.task.name), f"{task.task.name} ({task.role})"
            plot_examples(examples, path, title=title, patched=patched, caption=caption)
    return {task.task.name: caption for task, _, caption in chosen}


def _choose(
    run: PatchRun, curve: AlphaCurve, alpha: Alpha, split: str
) -> list[tuple[PreparedTask, NDArray[np.int64], str]]:
    """Return each task that has images to show, their indices, and how they were chosen."""
    chosen, count = [], run.options.num_examples
    for task in run.tasks if count else ():
        before, after = (_correct(curve, task, point, split) for point in (0.0, alpha))
        if task.role != "shift" and before is not None and after is not None:
            caption = describe_choice(before, after, images=f"{split} images", count=count)
            chosen.append((task, choose_images(before, after, count=count), caption))
    return chosen


def _correct(curve: AlphaCurve, task: PreparedTask, alpha: Alpha, split: str) -> NDArray[np.bool_] | None:
    """Return which images are right at an alpha, shape (num_images,); None where the split was not evaluated."""
    result = curve.get(alpha, task.role, task.task.name, split)
    return None if result is None else curve.correct_images(result)


def sweep_ensemble_of(run: PatchRun, theta_1: Mapping[str, Tensor], alphas: Sequence[Alpha]) -> AlphaCurve | None:
    """Return the curve of the output-space ensemble, kept in `ensemble.jsonl`, where the run asks for it."""
    if not run.options.compare_ensemble:
        return None
    log = ResultLog(run.folder.path, write=run.folder.write, name=ENSEMBLE)
    evaluator, grid = run.evaluator(theta_1), [alpha for alpha in alphas if not isinstance(alpha, Coefficients)]
    curve = evaluate_ensemble(run.theta_0, theta_1, grid, run.tasks, model=run.tower(), log=log, evaluator=evaluator)
    evaluator.accelerator.wait_for_everyone()  # the intervals read what the main process writes
    return curve


def save_robustness(
    run: PatchRun, curve: AlphaCurve, *, selected: Alpha | None = None, ensemble: AlphaCurve | None = None
) -> None:
    """Write `robustness.json` and `robustness.png` of a run that has shift tasks.

    Args:
        run: The run.
        curve: What was evaluated.
        selected: The alpha that was chosen.
        ensemble: The same of the output-space ensemble.
    """
    if not run.folder.write or not curve.tasks.get("shift"):
        return
    baseline = fit_baseline(run.options.baseline) if run.options.baseline else None
    table = robustness_table(curve, baseline=baseline)
    other = None if ensemble is None else robustness_table(ensemble, baseline=baseline)
    run.folder.save_robustness({"weights": table.to_dict(), "ensemble": other and other.to_dict()})
    plot = run.folder.robustness_plot
    plot_robustness(table, plot, selected=selected, ensemble=other, fine_tuned_label=run.method.end)
