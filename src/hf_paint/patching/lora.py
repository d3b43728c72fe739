"""Runs that train a LoRA adapter: the base that it names, and the adapter of the alpha that was chosen."""

import logging
from functools import partial

from hf_paint.adapters.lora import check_lora_layers, import_peft
from hf_paint.adapters.lora_files import base_of_adapter
from hf_paint.adapters.lora_scaling import combine_adapters, scale_adapter
from hf_paint.models.towers import image_tower
from hf_paint.patching.run import PatchRun
from hf_paint.repositories import cached, commit_of, is_repo_id
from hf_paint.results.alphas import Alpha, Coefficients


logger = logging.getLogger(__name__)


def check_adapter(run: PatchRun) -> None:
    """Check that the run can train an adapter, and say what its users will miss.

    Raises:
        InputError: If peft is not installed, the image tower has no such layers, or `base_model_id` is no id.
    """
    import_peft()
    check_lora_layers(image_tower(run.model), run.args)
    if base_of_run(run)[0] is None:
        logger.warning(
            f"The base is {run.base}, which is on no Hub: the adapter will name no base. Give its id, if it has one: "
            "base_model_id."
        )


def base_of_run(run: PatchRun) -> tuple[str | None, str | None]:
    """Return the id of the base of a run on the Hub and its commit, as far as there are such."""
    if not is_repo_id(run.base):
        return base_of_adapter({}, run.options.base_model_id)
    revision = run.options.model_revision
    config = cached(run.base, "config.json", revision)
    return run.base, commit_of(config.parent) if config else revision


def save_patched_adapter(run: PatchRun, alpha: Alpha) -> None:
    """Write the adapter of the alpha that was chosen: scaled, or those of several tasks side by side.

    A step of sequential patching adapts what the step before left behind, so that what the steps chose adds up.
    """
    if run.args.use_dora:
        return  # of the weights on the way from theta_0 to theta_1 none is that of an adapter
    folder, base = run.folder, base_of_run(run)
    if not isinstance(alpha, Coefficients):
        save = partial(scale_adapter, folder.adapter, alpha, base_model_id=base[0], extrapolate=True)
    elif folder.step(1).path.exists():
        adapters = {task: folder.step(number).patched_adapter for number, task in enumerate(alpha, 1)}
        save = partial(combine_adapters, adapters, dict.fromkeys(alpha, 1.0), base_model_id=base[0], revision=base[1])
    else:
        adapters = {task: folder.theta(task).adapter for task in alpha}
        save = partial(combine_adapters, adapters, alpha, base_model_id=base[0], revision=base[1])
    folder.save_folder(folder.patched_adapter, save)
