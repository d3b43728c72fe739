"""What a run says about distribution shift, and about the output-space ensemble beside interpolated weights."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.evaluation.ensembles import evaluate_ensemble
from hf_paint.patching.result import PatchOptions
from hf_paint.patching.run import PatchRun
from hf_paint.results.alphas import Alpha, Coefficients
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.plots import plot_robustness
from hf_paint.results.records import ENSEMBLE, ResultLog
from hf_paint.results.robustness import fit_baseline
from hf_paint.results.robustness_table import robustness_table


def check_shifts(options: PatchOptions, strategy: str) -> None:
    """Refuse, before training, options that no report could be made with.

    Raises:
        InputError: If a baseline cannot be fitted or has no shift tasks, or there is no line for an ensemble.
    """
    if options.baseline:
        fit_baseline(options.baseline)
        if not options.shift_tasks:
            raise InputError("`baseline` tells what to expect under shift: it needs `shift_tasks`.")
    if options.compare_ensemble and strategy not in ("single", "joint"):
        raise InputError(
            "`compare_ensemble` compares along the line from theta_0 to one theta_1: it goes with `strategy: single` "
            f"and `joint`, not with `{strategy}`."
        )
    if options.compare_ensemble and options.extrapolate:
        raise InputError("An ensemble mixes logits within [0, 1]: leave out `extrapolate` or `compare_ensemble`.")


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
    plot_robustness(table, plot, selected=selected, ensemble=other, end=run.method.end)
