"""The last stage of a run: save the selection, the plots, and the patched model with its card."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from transformers import PreTrainedModel

from hf_paint.evaluation.ensembles import evaluate_ensemble
from hf_paint.files import write_json
from hf_paint.hub.card import environment
from hf_paint.hub.card_source import CardSource, license_of
from hf_paint.hub.model_card import render_model_card
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.movement import measure_path
from hf_paint.merging.path import WeightPath
from hf_paint.models.task_file import read_tasks, write_tasks
from hf_paint.models.towers import with_weights
from hf_paint.patching.examples import save_examples
from hf_paint.patching.lora import save_patched_adapter
from hf_paint.patching.options import PatchResult
from hf_paint.patching.processes import wait_for_everyone
from hf_paint.patching.recipe import Rule
from hf_paint.patching.run import PatchRun
from hf_paint.patching.tracking import track_result
from hf_paint.report.writing import redraw_report
from hf_paint.repositories import is_repo_id
from hf_paint.results.alphas import Alpha, Coefficients, alpha_from_json, alpha_phrase, alpha_to_json
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.progress import begin_stage
from hf_paint.results.robustness import fit_baseline
from hf_paint.results.robustness_table import robustness_table
from hf_paint.results.run_files import ENSEMBLE
from hf_paint.results.selection import BY_HAND, Selection


logger: logging.Logger = logging.getLogger(__name__)


def finish(
    run: PatchRun, curve: AlphaCurve, path: WeightPath, alpha: Alpha | None, *, ensemble: AlphaCurve | None = None
) -> PatchResult:
    """Write the selection, the plots and the patched model with its card, and return the result of the run.

    An alpha that was chosen by hand, with `hf-paint select`, is kept as long as the run has the same rule.

    Args:
        run: Patching run.
        curve: Results of the run.
        path: Weight path, which gives the weights at any alpha.
        alpha: Alpha that the rule chose, if any.
        ensemble: Curve of the output-space ensemble, for comparison.
    """
    begin_stage("write", str(run.folder.path))
    by_hand = chosen_by_hand(run, curve)
    alpha = alpha if by_hand is None else by_hand
    if run.folder.write:  # also for `hf-paint select`, if nothing is chosen here
        write_tasks(run.folder.path, [task.classes for task in run.tasks])
    save_plots(run, curve, alpha, ensemble, rule=run.rule.selection if by_hand is None else BY_HAND)
    has_card = run.recipe.step is None  # steps have no card
    facts = _card_facts(run) if has_card else {}
    model = None
    if alpha is not None:
        weights = path.at(alpha)
        selection = selection_of(curve, alpha, run.rule, by_hand=by_hand is not None)
        if run.recipe.strategy == "sequential":
            selection["num_alphas"] = None
        if has_card:
            facts["examples"] = save_examples(run, curve, alpha)
        model = save_chosen(run, alpha, weights, selection=selection, facts=facts)
    elif has_card:
        run.folder.save_card_facts(facts)  # for `hf-paint select`
    if has_card:
        save_changes(run, path)
        redraw_report(run.folder)
    wait_for_everyone()
    result = PatchResult(alpha=alpha, curve=curve, run_folder=run.folder.path, model=model)
    track_result(run.folder, result, is_whole=has_card)
    return result


def save_changes(run: PatchRun, path: WeightPath) -> None:
    """Write how far each layer moved, once: the weights of a run never change."""
    if run.folder.write and not run.folder.changes.exists():
        write_json(run.folder.changes, measure_path(path).to_dict())


def chosen_by_hand(run: PatchRun, curve: AlphaCurve) -> Alpha | None:
    """Return the alpha that was chosen by hand instead of by the rule of this run, or None."""
    stored = run.folder.load_selection()
    if stored is None or stored["rule"] != BY_HAND:
        return None
    alpha, replaced = alpha_from_json(stored["alpha"]), (stored.get("instead_of"), stored["tolerance"])
    if replaced != (run.rule.selection, run.rule.tolerance) or alpha not in curve.alphas:
        return None
    logger.info(
        f"Kept {alpha_phrase(alpha)}, which was chosen by hand. To let the rule choose again: hf-paint select "
        f"{run.folder.path}"
    )
    return alpha


def save_chosen(
    run: PatchRun, alpha: Alpha, weights: Weights, *, selection: Selection, facts: Mapping[str, object]
) -> PreTrainedModel:
    """Write the selection and the patched model, and return the model.

    The order matters. The card is rendered from the recipe, results, selection, card facts and plots in the run
    folder, so they are all written first. `patched/` is written last, so its existence marks a complete run.

    Args:
        run: Patching run.
        alpha: Chosen alpha.
        weights: Weights at this alpha.
        selection: Contents of `selection.json`.
        facts: Contents of `card.json`; empty for a step, which has no card.
    """
    run.folder.save_selection(selection)
    if facts:
        run.folder.save_card_facts(facts)
    if run.args.use_peft:
        save_patched_adapter(run, alpha)
    save_model(run, run.folder.patched, weights, card=bool(facts))
    return with_weights(run.base.model, weights, run.recipe.save_dtype)


def save_model(run: PatchRun, folder: Path, weights: Weights, *, card: bool = False) -> None:
    """Save a complete CLIP repository, rounded once to `save_dtype` or, by default, to the dtype of the base."""

    def save(path: Path) -> None:
        run.base.save(path, weights, run.recipe.save_dtype)
        # `hf-paint select` loads no tasks
        write_tasks(path, [task.classes for task in run.tasks] or read_tasks(run.folder.path))
        if card:
            (path / "README.md").write_text(render_model_card(CardSource.from_run(run.folder)), encoding="utf-8")
            for plot in run.folder.plots:
                (path / plot.name).write_bytes(plot.read_bytes())

    run.folder.save_folder(folder, save)


def selection_of(curve: AlphaCurve, alpha: Alpha, rule: Rule, *, by_hand: bool = False) -> Selection:
    """Return the contents of `selection.json`.

    Args:
        curve: Results of the run.
        alpha: Chosen alpha.
        rule: Rule of the recipe.
        by_hand: Whether alpha was chosen by hand instead.
    """
    split = curve.reported_split if alpha in curve.points(curve.reported_split) else "validation"
    selection: Selection = {
        "alpha": alpha_to_json(alpha),
        "rule": BY_HAND if by_hand else rule.selection,
        "tolerance": rule.tolerance,
        "num_alphas": len(curve.points("validation")),
        "chosen_on": None if by_hand or rule.selection == "none" else "validation",
        "reported_on": split,
        "gains": [asdict(gain) for gain in curve.gains(alpha, split)],
    }
    if by_hand:
        selection["instead_of"] = rule.selection
    return selection


def _card_facts(run: PatchRun) -> dict[str, object]:
    base = run.base
    return {
        "class_names": list(run.tasks[0].class_names[:3]),
        "base_model_id": run.options.base_model_id or (base.name if is_repo_id(base.name) else None),
        "base_license": license_of(base.name),
        "save_dtype": str(run.recipe.save_dtype).removeprefix("torch."),
        "model_type": base.model.config.model_type,
        "num_processes": run.recipe.num_processes,
        "versions": environment(),
        "examples": {},
    }


def save_plots(
    run: PatchRun, curve: AlphaCurve, alpha: Alpha | None, ensemble: AlphaCurve | None, *, rule: str
) -> None:
    """Write the plots of what was measured and, if there are shift tasks, `robustness.json`.

    Args:
        run: Patching run.
        curve: Results of the run.
        alpha: Chosen alpha, if any.
        ensemble: Curve of the output-space ensemble, for comparison.
        rule: Rule that chose alpha, or `by hand`.
    """
    if not run.folder.write:
        return
    from hf_paint.results.plots import kinds, shown  # only now, because matplotlib takes a second to import

    tables = {}
    if curve.tasks.get("shift"):
        baseline = fit_baseline(run.options.baseline) if run.options.baseline else None
        curves = {"weights": curve, "ensemble": ensemble}
        tables = {name: robustness_table(c, baseline=baseline) for name, c in curves.items() if c is not None}
        run.folder.save_robustness({name: tables[name].to_dict() if name in tables else None for name in curves})
    split, end = shown.default_split(curve), run.method.end
    what = shown.Shown(curve=curve, split=split, selected=alpha, ensemble=ensemble, end=end, rule=rule)
    kinds.save_run_plots(run.folder, what, tables)


def sweep_ensemble(run: PatchRun, theta_1: Weights, alphas: Sequence[Alpha]) -> AlphaCurve:
    """Evaluate the output-space ensemble, write the results to `ensemble.jsonl`, and return its curve."""
    log, evaluator = run.log(ENSEMBLE), run.evaluator(theta_1)
    grid = [alpha for alpha in alphas if not isinstance(alpha, Coefficients)]
    theta_0, tower = run.base.theta_0, run.base.tower()
    curve = evaluate_ensemble(theta_0, theta_1, grid, run.tasks, model=tower, log=log, evaluator=evaluator)
    wait_for_everyone()  # intervals are computed from files of the main process
    return curve
