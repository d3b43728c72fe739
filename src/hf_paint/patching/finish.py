"""What a run leaves behind once it is evaluated: the selection, the plot, the patched model with its card."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import Tensor

from hf_paint.hub.card_source import CardSource, license_of
from hf_paint.hub.model_card import environment, render_model_card
from hf_paint.models.towers import with_weights
from hf_paint.patching.adapter import save_patched_adapter
from hf_paint.patching.examples import save_examples
from hf_paint.patching.result import PatchResult
from hf_paint.patching.run import PatchRun
from hf_paint.patching.shifts import save_robustness
from hf_paint.repositories import is_repo_id
from hf_paint.results.alphas import Alpha, Coefficients, alpha_to_json
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.plots import plot_trade_off


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
    split = "test" if "test" in curve.splits("patching") else "validation"
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
        plot_trade_off(curve, run.folder.curve_plot, **shown, ensemble=ensemble, end=run.method.end)
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
