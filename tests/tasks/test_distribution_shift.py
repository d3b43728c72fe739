"""Tasks whose classes are a subset or groups of another task's classes (WiSE-FT's shifts of ImageNet)."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image, Value

from drawn_tasks import CLASS_NAMES, draw_rows, write_task_yaml
from hf_paint import PaintTrainingArguments, PatchOptions, evaluate_tasks, get_task, patch_single


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The path of the YAML of a task with four classes."""
    return write_task_yaml(tmp_path_factory.mktemp("task"), "colours", class_names=list(CLASS_NAMES))


@pytest.fixture(scope="module")
def shift(reference, tmp_path_factory):
    """A shift with two classes, labelled 0 and 1."""
    path = str(tmp_path_factory.mktemp("shift") / "shift.parquet")
    features = Features({"image": Image(), "label": Value("int64"), "track": Value("int64")})
    Dataset.from_dict(draw_rows(50, 3, names=CLASS_NAMES[:2]), features=features).to_parquet(path)
    splits = {"train": None, "validation": None, "test": "test"}
    return {"extends": reference, "data_files": {"test": path}, "splits": splits}


@torch.no_grad()
def logits_and_labels(task, model, processor):
    """The logits of the four reference classes from plain transformers, and the labels."""
    rows = Dataset.from_parquet(task.data_files["test"])
    texts = [f"a photo of a {name}." for name in CLASS_NAMES]
    inputs = processor(text=texts, images=list(rows["image"]), return_tensors="pt", padding=True)
    return model.eval()(**inputs).logits_per_image.double().numpy(), np.array(rows["label"])


def check(result, logits, labels):
    """Compare a record with the metrics of logits (num_images, num_classes), written out."""
    assert (result.correct, result.total) == ((logits.argmax(axis=1) == labels).sum(), len(labels))
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    assert result.loss == pytest.approx(losses.mean(), rel=1e-4)


@pytest.mark.parametrize("given", [[3, 1], ["grey", "green"], [3, "green"]])
def test_a_subset_masks_the_logits_of_the_reference(shift, model, processor, given):
    task = get_task(shift | {"name": "subset", "class_subset": given})
    logits, labels = logits_and_labels(task, model, processor)
    [result] = evaluate_tasks(model, [task], processor=processor)
    check(result, logits[:, [3, 1]], labels)
    masked = np.full_like(logits, -np.inf)
    masked[:, [3, 1]] = logits[:, [3, 1]]
    assert result.correct == (masked.argmax(axis=1) == np.array([3, 1])[labels]).sum()


def test_any_class_of_the_group_is_right(shift, model, processor):
    groups = {"warm": ["red", 3, "green"], "cold": ["blue"]}
    task = get_task(shift | {"name": "groups", "class_groups": groups})
    assert task.class_groups == {"warm": ("red", "grey", "green"), "cold": ("blue",)}
    logits, labels = logits_and_labels(task, model, processor)
    [result] = evaluate_tasks(model, [task], processor=processor)
    check(result, np.stack([logits[:, [0, 3, 1]].max(axis=1), logits[:, 2]], axis=1), labels)
    members = [{0, 3, 1}, {2}]
    predicted = logits.argmax(axis=1)
    assert result.correct == sum(int(p) in members[label] for p, label in zip(predicted, labels, strict=True))


def test_groups_can_be_split_and_trained_on(reference, model_folder, tmp_path):
    names = {"rot": ["red"], "gruen": ["green"], "blau": ["blue"], "grau": ["grey"]}
    task = get_task({"extends": reference, "name": "german", "class_groups": names, "label_names": list(CLASS_NAMES)})
    halves = [get_task(task.to_dict() | {"name": f"half-{i}", "class_split": {"part": i}}) for i in (0, 1)]
    args = PaintTrainingArguments(
        output_dir=str(tmp_path / "run"), use_cpu=True, disable_tqdm=True, max_steps=2, warmup_steps=1
    )
    options = PatchOptions(shift_tasks=[halves[1]])
    patch_single(model_folder, halves[0], [get_task(reference)], args, alphas=[1.0], options=options)
    records = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    shifts = [record for record in records if record["role"] == "shift"]
    assert [(record["task"], record["alpha"]) for record in shifts] == [("half-1", 0.0), ("half-1", 1.0)]
