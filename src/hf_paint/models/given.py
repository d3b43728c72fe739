"""Models as users give them: a model in memory, a folder, a run folder, or a Hub repository id."""

import logging
from pathlib import Path
from typing import TypeAlias

from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.files import exists, expand
from hf_paint.models.families import find_family
from hf_paint.models.loading import load_clip, model_name, processor_of
from hf_paint.models.task_file import read_tasks
from hf_paint.results.records import ROLES
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.seals import check_readable
from hf_paint.tasks.registry import get_tasks
from hf_paint.tasks.task import Task
from hf_paint.weights.finite import finite
from hf_paint.weights.folders import TASKS


ModelLike: TypeAlias = str | Path | PreTrainedModel
"""A Hub repository id, a folder, or a model in memory."""

logger: logging.Logger = logging.getLogger(__name__)


def model_of(name_or_path: str | Path) -> str:
    """Return the folder or Hub id of a model; for a run folder, the folder of its patched model.

    Raises:
        InputError: If the run has no patched model yet, or another process works in its folder.
    """
    name = model_name(name_or_path)
    run = RunFolder(Path(name))
    is_model = (run.path / "config.json").is_file() if exists(run.path) else True  # which may lie beside its recipe
    if is_model or not run.recipe.is_file():
        return name
    check_readable(run.path)
    if not run.patched.is_dir():
        raise InputError(
            f"The run in {name_or_path} has no patched model: it is not finished, or has `selection: none`. Finish it "
            f"with `hf-paint patch`, or name one of its models, for instance {run.theta_1}."
        )
    return str(run.patched)


def load_given(
    model: ModelLike, processor: ProcessorMixin | None = None, *, revision: str = "main"
) -> tuple[PreTrainedModel, ProcessorMixin]:
    """Return a model and its processor, loading whatever is not given.

    Args:
        model: Model in memory, folder, run folder (for its patched model), Hub repository id or `id@revision`.
        processor: Processor of the model; by default, the one stored with it.
        revision: Branch, tag or commit on the Hub.

    Raises:
        InputError: If the model or its processor cannot be loaded, or the model does not belong to a supported
            family.
    """
    if processor is not None and not hasattr(processor, "image_processor"):
        raise InputError(
            "`processor` must be the processor of a CLIP model, which holds an image processor and a tokenizer; got "
            f"an object of type {type(processor).__name__}."
        )
    if not isinstance(model, PreTrainedModel):
        loaded, stored, _ = load_clip(model_of(model), revision=revision)
        return loaded, processor or stored
    find_family(model.config, model.name_or_path or type(model).__name__)
    for name, tensor in model.state_dict().items():
        finite(name, tensor, f"the {type(model).__name__} in memory")
    return model.eval(), processor or processor_of(model)


def own_tasks(name_or_path: str | Path, *, revision: str = "main") -> list[Task]:
    """Return the tasks of a run or of the model in it, or the built-in tasks that the `tasks.json` of a model names.

    A model does not come with data, so its other tasks are left out with a warning.

    Raises:
        InputError: If no such task is known.
    """
    folder = expand(name_or_path)
    for run in (RunFolder(folder), RunFolder(folder.resolve().parent)):
        if folder.is_dir() and run.recipe.is_file() and run.results.is_file():
            recipe = run.load_recipe()
            return [task for role in ROLES for task in get_tasks(recipe.get(f"{role}_tasks") or [])]
    listed = read_tasks(name_or_path, revision=revision)
    if not listed:
        raise InputError(f"'{name_or_path}' is not a run and has no {TASKS}, so it names no tasks. Pass --tasks.")
    names = [task.built_in for task in listed if task.built_in is not None]
    others = ", ".join(task.name for task in listed if task.built_in is None)
    if not names:
        raise InputError(f"'{name_or_path}' comes without the data of its tasks ({others}). Pass --tasks.")
    if others:
        logger.warning(f"Left out, because '{name_or_path}' comes without their data: {others}. Name them in --tasks.")
    return get_tasks(names)
