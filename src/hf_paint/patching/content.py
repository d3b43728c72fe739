"""What a run reads, as fingerprints: a run folder is only valid for this content (see `Identity`)."""

from hf_paint.data.content import fingerprint_content
from hf_paint.data.splits import load_splits
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.content import base_content
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.patching.recipe import Recipe
from hf_paint.tasks.registry import get_tasks
from hf_paint.tasks.task import Task


def content_of(recipe: Recipe) -> dict[str, str]:
    """Return what a run reads -> fingerprint: the base model, the splits of all tasks, and `thetas`.

    Heads are covered by the base model, and by the class names and prompts in the splits. Their own fingerprints would
    also depend on the machine that computes them.
    """
    base = recipe.base
    content = base_content(base.model.state_dict(), base.model.config, base.processor)
    roles = [
        *((task, _patching_splits(recipe, task)) for task in recipe.patching_tasks),
        *((task, ("validation", "test")) for task in recipe.supported_tasks),
        *((task, ("train",)) for task in recipe.replayed_tasks),
        *((task, ("test",)) for task in get_tasks([*recipe.options.transfer_tasks, *recipe.options.shift_tasks])),
    ]
    for task, names in roles:
        for name, split in load_splits(task, names).items():
            content[f"the {name} split of task '{task.name}'"] = fingerprint_content(split)
    for name, model in recipe.options.thetas.items():
        weights = StoredTower(find_tower(model), recipe.base.theta_0)
        content[f"the model '{name}' in `thetas`"] = fingerprint_weights(weights)
    return content


def _patching_splits(recipe: Recipe, task: Task) -> tuple[str, ...]:
    return ("train", "validation", "test") if task in recipe.tasks_to_read else ("validation", "test")
