"""Saving the LoRA adapter of a run at the chosen alpha."""

from functools import partial

from hf_paint.adapters.lora_scaling import combine_adapters, scale_adapter
from hf_paint.patching.run import PatchRun
from hf_paint.results.alphas import Alpha, Coefficients


def save_patched_adapter(run: PatchRun, alpha: Alpha) -> None:
    """Write the adapter for the chosen alpha: one scaled adapter, or the combined adapters of several tasks.

    In sequential patching, each step adapts the patched model of the previous step, so their scaled adapters add up.
    DoRA is not linear in alpha, so no adapter is written for it.
    """
    if run.args.use_dora:
        return
    folder = run.folder
    model_id, commit = run.base.on_hub(run.options.base_model_id)
    if not isinstance(alpha, Coefficients):
        save = partial(scale_adapter, folder.adapter, alpha, base_model_id=model_id, extrapolate=True)
    elif run.recipe.strategy == "sequential":
        adapters = {task: folder.step(number).patched_adapter for number, task in enumerate(alpha, 1)}
        save = partial(combine_adapters, adapters, dict.fromkeys(alpha, 1.0), base_model_id=model_id, revision=commit)
    else:
        adapters = {task: folder.theta(task).adapter for task in alpha}
        save = partial(combine_adapters, adapters, alpha, base_model_id=model_id, revision=commit)
    folder.save_folder(folder.patched_adapter, save)
