"""Read typographic attacks from a folder of photos with names like `label=dog_text=cat.png` (PAINT, Section 7)."""

from pathlib import Path
from unicodedata import normalize

from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from hf_paint.data.folder_files import list_folder
from hf_paint.errors import InputError, warn_once
from hf_paint.files import expand
from hf_paint.tasks.typographic_photos import TypographicTask


SPLIT = "test"
"""Name of the only split in a folder."""
START, MIDDLE = "label=", "_text="
NUM_SHOWN = 5
"""Maximum number of bad file names listed in a message."""


def read_typographic_folder(task: TypographicTask, source: str) -> Dataset:
    """Read the photos in a task's `data_dir`, sorted by name, into rows with the columns image, label and text.

    Subfolders and hidden files are ignored. `bad_rows` of the task determines whether other files raise an error or
    are skipped if they are not images, or their names do not contain a label and a text.

    Raises:
        InputError: If the folder or split does not exist, the folder contains no photos, or it contains other files
            and the task sets `bad_rows: refuse`.
    """
    if source != SPLIT:
        raise InputError(
            f"A typographic folder has only the split '{SPLIT}', but task '{task.name}' uses '{source}'. Set "
            f"`splits: {{train: null, validation: null, test: {SPLIT}}}`."
        )
    folder = expand(task.data_dir or "")
    if task.data_dir is None or not folder.is_dir():
        raise InputError(f"`data_dir` of task '{task.name}' must be a folder of photos, got {task.data_dir!r}.")
    photos = _find_photos(task, folder)
    columns = {
        "image": [str(path) for path in photos],
        "label": [label for label, _ in photos.values()],
        "text": [text for _, text in photos.values()],
    }
    features = Features({"image": Image(), "label": Value("string"), "text": Value("string")})
    return Dataset.from_dict(columns, features=features)


def _find_photos(task: TypographicTask, folder: Path) -> dict[Path, tuple[str, str]]:
    """Return path -> label and text."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    names = {path: parse_name(path.name) for path in files}
    bad_names = [path.name for path, name in names.items() if name is None]
    if bad_names:
        _report(task, folder, bad_names)
    if deeper := [picture.place for picture in list_folder(folder).pictures if picture.folders]:
        warn_once(f"{len(deeper)} pictures in subfolders of {folder} are not read, for instance '{deeper[0]}'.")
    photos = {path: name for path, name in names.items() if name is not None}
    if not photos:
        raise InputError(
            f"The folder {folder} of task '{task.name}' contains no photos. Name the files label=LABEL_text=WORD, for "
            "instance label=dog_text=cat.png."
        )
    return photos


def parse_name(name: str) -> tuple[str, str] | None:
    """Return the label and text in a file name, or None if they are missing or ambiguous.

    Labels and texts may contain `_`, `=` and spaces, as long as `_text=` occurs exactly once.

    Example:
        >>> parse_name("label=st. bernard_text=a=b_c.png"), parse_name("dog.png")
        (('st. bernard', 'a=b_c'), None)
    """
    path = Path(normalize("NFC", name))  # some file systems decompose accented letters
    is_image = path.suffix.lower() in PILImage.registered_extensions()
    if not is_image or not path.stem.startswith(START) or path.stem.count(MIDDLE) != 1:
        return None
    label, text = (part.strip() for part in path.stem.removeprefix(START).split(MIDDLE))
    return (label, text) if label and text else None


def _report(task: TypographicTask, folder: Path, bad_names: list[str]) -> None:
    names = ", ".join(f"'{name}'" for name in bad_names[:NUM_SHOWN])
    if len(bad_names) > NUM_SHOWN:
        names += f" and {len(bad_names) - NUM_SHOWN} more"
    message = (
        f"{len(bad_names)} files in {folder} (task '{task.name}') are not images named like label=dog_text=cat.png: "
        f"{names}."
    )
    if task.bad_rows == "refuse":
        raise InputError(f"{message} Rename them, or set `bad_rows: skip`.")
    warn_once(f"{message} They are skipped.")
