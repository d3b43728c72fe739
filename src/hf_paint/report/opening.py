"""Opening what a user names for the demo: a run, a patched model, a patch, or any CLIP model."""

from pathlib import Path

from hf_paint.models.loading import model_name
from hf_paint.report.subject import Subject
from hf_paint.report.subject_of_model import open_model
from hf_paint.report.subject_of_run import open_run
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.seals import check_readable


def open_subject(name_or_path: str | Path, base: str | None = None) -> Subject:
    """Open a run or a model.

    A model inside a run folder, like `patched`, stands for the run, which knows more.

    Args:
        name_or_path: Run folder, model folder, Hub repository id or `id@revision`.
        base: Model before patching, if it cannot be found otherwise.

    Raises:
        InputError: If the run is not finished, or a model cannot be loaded.
    """
    name = model_name(name_or_path)
    folder = Path(name)
    if _is_run(folder):
        check_readable(folder)
        return open_run(folder, base)
    if folder.is_dir() and _is_run(folder.resolve().parent):
        return open_run(folder.resolve().parent, base)
    return open_model(name, base)


def _is_run(folder: Path) -> bool:
    """Return whether this is a run folder; a model may lie beside the recipe that made it."""
    return RunFolder(folder).recipe.is_file() and not (folder / "config.json").is_file()
