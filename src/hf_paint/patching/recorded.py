"""A finished run, rebuilt from its folder without its data."""

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError
from hf_paint.merging.recorded import lacks_base
from hf_paint.merging.registry import read_method
from hf_paint.models.classifier import ClassificationHead
from hf_paint.patching.base import Base
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.recipe import Recipe, Rule
from hf_paint.patching.run import PatchRun
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.registry import get_tasks
from hf_paint.training.training_args import PaintTrainingArguments


ARGUMENTS = ("use_cpu", "use_peft", "use_dora", "train_head")
"""Training arguments that say how a finished run is saved."""


def recorded_run(folder: RunFolder, recipe: Json) -> PatchRun:
    """Return a finished run without its tasks' images, from the contents of its `recipe.yaml`.

    Raises:
        InputError: If the base is missing, or has changed since the run.
    """
    model = str(recipe["model"])
    if lacks_base(recipe):
        raise InputError(f"Choosing again needs the files of the base, but {model} is missing.")
    names = ("model_revision", "base_fingerprint", "base_model_id", "save_dtype", "thetas", "baseline", "method")
    options = PatchOptions(**{name: recipe[name] for name in names if name in recipe})
    arguments = {name: recipe[name] for name in ARGUMENTS if name in recipe}
    base = Base.load(model, options)
    if folder.theta_0.exists():
        base = base.with_head(ClassificationHead.load(folder.theta_0))
    return PatchRun(
        Recipe(
            strategy=recipe.get("strategy", "single"),
            base=base,
            args=PaintTrainingArguments(output_dir=str(folder.path), **arguments),
            patching_tasks=get_tasks(recipe["patching_tasks"]),
            supported_tasks=get_tasks(recipe.get("supported_tasks", [])),
            rule=Rule(alphas=recipe["alphas"], selection=recipe["selection"], tolerance=recipe["tolerance"]),
            options=options,
            method=read_method(recipe.get("method", "interpolate")),
        )
    )
