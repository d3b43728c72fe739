"""What grows in the load part of the torture: rows, files, alphas, records, classes and tensors."""

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, Image
from PIL import Image as PILImage
from safetensors.torch import save_file

from digits import TOY
from hf_paint import Task
from hf_paint.cli.outcome import report
from hf_paint.data.images import CachedImages
from hf_paint.data.labels import match_class_names, name_ids, unite_names
from hf_paint.data.read_once import reading_once
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.model_card import render_model_card
from hf_paint.models.loading import load_clip
from hf_paint.models.zero_shot import build_zero_shot_head
from hf_paint.report.building import report_of
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.outcome import Outcome
from hf_paint.results.records import Result
from hf_paint.results.result_log import ResultLog
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.classification import ClassificationTask
from hf_paint.weights.checkpoints import interpolate_checkpoints
from run_folders import write_run


Work = Callable[[], object]
SPLITS = ("train", "validation", "test")
TINY = 16
"""Width and height of a picture of a row or a file."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Something that grows.

    Attributes:
        name: What it is.
        size: The larger of the two sizes.
        prepare: Called as `prepare(folder, size)` outside the measured time; returns the work to measure.
    """

    name: str
    size: int
    prepare: Callable[[Path, int], Work]


def tiny_rows(folder: Path, size: int) -> Work:
    """Rows of a parquet file are labelled, decoded and resized."""
    file, pictures = folder / "rows.parquet", [_tiny_picture(seed) for seed in range(8)]
    features = Features({"image": Image(), "label": ClassLabel(names=["one", "two"])})
    columns = {"image": [pictures[row % 8] for row in range(size)], "label": [row % 2 for row in range(size)]}
    Dataset.from_dict(columns, features=features).to_parquet(str(file))
    task = _task("parquet", data_files={"test": str(file)}, splits={"train": None, "validation": None})
    transform = PixelTransform(load_clip(TOY)[1])

    def work() -> None:
        CachedImages(load_splits(task, ("test",))["test"], transform, cache_dir=folder / "cache")

    load_splits(task, ("test",))  # `datasets` converts the file once
    return work


def files_in_folders(folder: Path, size: int) -> Work:
    """A folder of pictures is opened as a run does, which asks for its splits again and again."""
    write_files(folder / "pictures", size)
    task = _task("imagefolder", data_dir=str(folder / "pictures"), guess=True, splits=dict.fromkeys(SPLITS, "guess"))

    def work() -> None:
        with reading_once():
            for _ in range(4):
                load_splits(task)

    return work


def write_files(folder: Path, size: int, *, classes: int = 20) -> None:
    """Write a number of pictures, copies of eight, in folders of classes."""
    for seed in range(min(8, size)):
        path = folder / f"class {seed % classes}" / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_tiny_picture(seed)["bytes"])
    for number in range(8, size):
        path = folder / f"class {number % classes}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder / f"class {number % 8}" / f"{number % 8}.png", path)


def alphas_by_tasks(folder: Path, size: int) -> Work:
    """Alpha is chosen by both rules, and the end of the run is printed."""
    records = list(_records(size, tasks=50))

    def work() -> None:
        curve = AlphaCurve(records)
        for rule in ("supported_within", "mean"):
            chosen = curve.select(rule)
        selection = {"alpha": chosen, "rule": "mean", "tolerance": 0.01, "chosen_on": "validation"}
        selection |= {"num_alphas": size, "reported_on": "test"}
        report(Outcome.of(curve, selection, {"selection": "mean"}), curve, folder, end="fine-tuned")

    return work


def records_of_a_log(folder: Path, size: int) -> Work:
    """A log of records is read, each of them is looked up, and a curve is made of them."""
    lines = "".join(record.to_json() + "\n" for record in islice(_records(size // 50 + 1, tasks=50), size))
    (folder / "results.jsonl").write_text(lines)

    def work() -> None:
        log = ResultLog(folder)
        found = [log.find(result.key, result.alpha) for result in log.results]
        AlphaCurve(result for result in found if result is not None)

    return work


def report_and_card(folder: Path, size: int) -> Work:
    """The report and the model card of a run with many alphas are written."""
    run = folder / "run"
    write_run(run, tasks=4, alphas=tuple(i / (size - 1) for i in range(size)), images=20)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    for role in ("patching_tasks", "supported_tasks"):
        recipe[role] = [_task("me/many").to_dict() | {"name": name} for name in recipe[role]]
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def work() -> None:
        report_of([run])
        render_model_card(CardSource.from_run(RunFolder(run)))

    return work


def names_of_classes(folder: Path, size: int) -> Work:
    """Class names are matched with those of a data set, and those of two splits are united."""
    names = [f"Class-Number {number}" for number in range(size)]
    others = [name.lower().replace("-", " ") for name in names]

    def work() -> None:
        task = ClassificationTask(name="many", dataset="x", class_names=tuple(names), templates=("a {}.",))
        match_class_names(task, others)
        unite_names([names, others, names[::-1]])
        name_ids(names)

    return work


def prompts_of_a_head(folder: Path, size: int) -> Work:
    """A head of many classes and 80 templates is built."""
    model, processor, _ = load_clip(TOY)
    names = tuple(f"thing {number}" for number in range(size))
    templates = tuple(f"a photo {number} of a {{}}." for number in range(80))
    return lambda: build_zero_shot_head(model, processor, names, templates, cache_dir=folder / "cache")


def tensors_of_a_model(folder: Path, size: int) -> Work:
    """Two models with many tensors are interpolated from file to file."""
    for name in ("before", "after"):
        (folder / name).mkdir()
        tensors = {f"layers.{number}.weight": torch.full((4,), float(len(name))) for number in range(size)}
        save_file(tensors, folder / name / "model.safetensors")
        (folder / name / "config.json").write_text("{}")
    return lambda: interpolate_checkpoints(folder / "before", folder / "after", {0.5: folder / "between"})


def _records(alphas: int, *, tasks: int) -> Iterator[Result]:
    """Yield a record for each alpha, task and split."""
    for number in range(alphas):
        for task in range(tasks):
            for split in ("validation", "test"):
                yield Result(
                    alpha=number / max(1, alphas - 1),
                    task=f"task {task}",
                    role="supported" if task % 2 else "patching",
                    split=split,
                    correct=50 + (7 * number + task) % 40,
                    total=100,
                    weights=f"weights {number}",
                    head=f"head {task}",
                    data=f"data {task} {split}",
                )


def _tiny_picture(seed: int) -> dict[str, bytes]:
    pixels = np.random.default_rng(seed).integers(256, size=(TINY, TINY, 3), dtype=np.uint8)
    file = io.BytesIO()
    PILImage.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue()}


def _task(dataset: str, **keys: object) -> Task:
    return Task.from_dict({"name": "many", "dataset": dataset, "templates": ["a photo of a {}."], **keys})


KINDS = (
    Kind("tiny rows", 100_000, tiny_rows),
    Kind("files in folders", 20_000, files_in_folders),
    Kind("alphas of 50 tasks", 1_001, alphas_by_tasks),
    Kind("records of a log", 100_000, records_of_a_log),
    Kind("report and card: alphas of 4 tasks", 1_001, report_and_card),
    Kind("names of classes", 20_000, names_of_classes),
    Kind("classes of a head with 80 templates", 1_000, prompts_of_a_head),
    Kind("tensors of a model", 8_000, tensors_of_a_model),
)
