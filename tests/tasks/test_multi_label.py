"""Multi-label tasks: several classes per image, in accuracy, mean average precision and training."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import ClassLabel, Dataset, Features, Image, List
from PIL import Image as PILImage
from sklearn.metrics import average_precision_score

from drawn_tasks import CLASS_NAMES, write_task
from hf_paint import (
    AlphaCurve,
    HeadTrainer,
    InputError,
    PaintTrainer,
    PatchOptions,
    Task,
    evaluate_tasks,
    get_task,
    patch_joint,
    sweep_alphas,
)
from hf_paint.data.draws import draw_stratified
from hf_paint.data.joint_images import JointImages
from hf_paint.data.label_lists import pad
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.adaptive_sweep import sweep_adaptively
from hf_paint.evaluation.average_precision import average_precisions, mean_average_precision
from hf_paint.evaluation.predictions import predictions_from_logits, score
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.models.classifier import ClassificationHead
from hf_paint.models.heads import JointHead, ZeroShotHead
from hf_paint.models.losses import cross_entropy
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.patching.measurements import tempered_loss
from patch_runs import arguments
from report_checks import checked_report
from scenes_of_colours import draw_scenes, write_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def part(task, **keys):
    return Task.from_dict(task.to_dict() | keys)


def classes_of(split):
    return [[int(label) for label in row if label >= 0] for row in split.labels()]


@pytest.mark.parametrize("form", ["classes", "names", "positions", "text", "digits", "csv", "jsonl"])
def test_labels_are_read_in_every_form(form, tmp_path):
    splits = load_splits(write_scenes(tmp_path, form=form, splits={"validation": None}))
    train, test = (draw_scenes(count, seed)[1] for count, seed in ((24, 0), (20, 1)))
    assert splits["test"].class_names == CLASS_NAMES
    assert sorted(classes_of(splits["test"])) == sorted(sorted(own) for own in test)
    assert sorted(classes_of(splits["train"])) == sorted(sorted(own) for own in train if own)
    assert [] in test
    assert [] in train


def rarest(own, lists):
    """The class of an image that the fewest images have, the first of several, or -1."""
    return min(own, key=lambda label: (sum(label in other for other in lists), label), default=-1)


@pytest.mark.parametrize("form", ["classes", "names", "text"])
def test_missing_splits_are_drawn_by_the_rarest_class_of_each_image(form, tmp_path):
    """Also where only the data name the classes."""
    written = write_scenes(tmp_path, form=form, train=60)
    reference = {"dataset": written.data_files["train"], "multi_label": True, "class_names": [*CLASS_NAMES]}
    if form == "text":
        reference["label_separator"] = ";"
    for keys in (reference, without(reference, "class_names")):
        splits = load_splits(get_task(keys))
        order = [splits["test"].class_names.index(name) for name in CLASS_NAMES]
        lists = [sorted(order[label] for label in own) for own in draw_scenes(60, 0)[1]]
        drawn = draw_stratified(np.array([rarest(own, lists) for own in lists]), ["test", "validation"])
        assert {name: classes_of(split) for name, split in splits.items()} == {
            name: [lists[row] for row in rows if lists[row] or name != "train"] for name, rows in drawn.items()
        }


def without(values, key):
    return {name: value for name, value in values.items() if name != key}


def test_a_definition_survives_a_file(scenes, tmp_path):
    task = part(scenes, name="other", label_names=["r", "g", "b", "x"], class_names=[*CLASS_NAMES])
    task.to_yaml(tmp_path / "task.yaml")
    assert Task.from_yaml(tmp_path / "task.yaml") == task
    assert type(task).__name__ == "MultiLabelTask"


REFUSED = {
    "one label per image": ({"label_column": "track"}, "must be a column with a list of labels per image"),
    "a list and a separator": ({"label_separator": ";"}, "must be a column with text, because `label_separator`"),
    "empty separator": ({"label_separator": ""}, "must be the text between two classes"),
    "halves of the classes": ({"class_split": {"part": 0}}, "`class_split` of task 'scenes' keeps the images of some"),
    "some classes": ({"only_classes": ["red"]}, "`only_classes` of task 'scenes' keeps the images of some classes"),
    "a stream": ({"streaming": True}, "`streaming` is not a key of a multi-label task"),
    "an attack": ({"attack": {}}, "`attack` is not a key of a multi-label task"),
    "an unknown class": ({"class_names": ["red", "green", "blue", "mauve"]}, "have no matching class name"),
}


@pytest.mark.parametrize(("keys", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(keys, message, scenes, tmp_path):
    with pytest.raises(InputError, match=message):
        if keys == {"label_column": "track"}:
            load_splits(write_task(tmp_path, multi_label=True, name="colours"))
        load_splits(part(scenes, **keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [({}, "set `multi_label: true`"), ({"label_separator": ";"}, "add `multi_label` for a multi-label task")],
)
def test_lists_of_labels_need_the_key(scenes, keys, message):
    definition = {key: value for key, value in scenes.to_dict().items() if key != "multi_label"}
    with pytest.raises(InputError, match=message):
        load_splits(Task.from_dict(definition | keys))


def test_missing_lists_and_images_without_any_class_are_named(tmp_path):
    image = PILImage.new("RGB", (32, 32))
    features = Features({"image": Image(), "label": List(ClassLabel(names=["cat", "dog"]))})
    for labels, message in (([[0], None], "Row 1 of .* has no list in 'label'"), ([[], []], "No image of the test")):
        rows = Dataset.from_dict({"image": [image, image], "label": labels}, features=features)
        rows.to_parquet(tmp_path / f"{len(message)}.parquet")
        task = Task(
            name="t",
            dataset="parquet",
            data_files={"test": str(tmp_path / f"{len(message)}.parquet")},
            templates=("a {}",),
            multi_label=True,
        )
        with pytest.raises(InputError, match=message):
            load_splits(task, ["test"])


def test_files_with_other_class_names_are_matched_by_name(tmp_path):
    image = PILImage.new("RGB", (32, 32))
    for number, names in enumerate((["cat", "dog", "cow"], ["cow", "cat"])):
        features = Features({"image": Image(), "label": List(ClassLabel(names=names))})
        rows = {"image": [image], "label": [[0, 1]]}
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{number}.parquet")
    files = [str(tmp_path / f"{number}.parquet") for number in (0, 1)]
    task = Task(name="t", dataset="parquet", data_files={"test": files}, templates=("a {}",), multi_label=True)
    split = load_splits(task, ["test"])["test"]
    assert [[split.class_names[i] for i in row] for row in classes_of(split)] == [["cat", "dog"], ["cat", "cow"]]


@pytest.mark.parametrize("case", ["random", "tied", "rare"])
def test_average_precision_is_that_of_sklearn(case):
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(60, 7)).astype(np.float32)
    shows = generator.random((60, 7)) < 0.3
    if case == "tied":
        scores = scores.round()
    if case == "rare":
        shows[:, 0], shows[:, 1], shows[1:, 2] = False, True, False
    found = average_precisions(scores, pad([np.flatnonzero(row) for row in shows]))
    usable = shows.any(axis=0) & ~shows.all(axis=0)
    expected = [average_precision_score(shows[:, i], scores[:, i]) if usable[i] else np.nan for i in range(7)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert mean_average_precision(found) == pytest.approx(np.nanmean(expected), rel=1e-12)
    assert mean_average_precision(np.full(3, np.nan)) is None


def loss_by_hand(logits, labels, smoothing=0.0, columns=None):
    """The cross-entropy in float64, image by image, with the target written out."""
    total = []
    for row, own in zip(logits.double().numpy(), labels, strict=True):
        columns_of_row = range(len(row)) if columns is None else columns(own)
        if own:
            p = np.exp(row - row.max())
            p /= sum(p[c] for c in columns_of_row)
            target = {
                c: (1 - smoothing) * (c in own) / len(own) + smoothing / len(columns_of_row) for c in columns_of_row
            }
            total.append(-sum(share * np.log(p[c]) for c, share in target.items()))
    return np.mean(total)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_spreads_the_target_over_the_classes_of_an_image(smoothing):
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    labels = [[0, 3], [2], [], [1, 4, 5], [0, 1, 2, 3, 4, 5]]
    padded = torch.from_numpy(pad(labels))
    found = cross_entropy(logits, padded, label_smoothing=smoothing)
    assert float(found) == pytest.approx(loss_by_hand(logits, labels, smoothing), rel=1e-6)
    targets = torch.tensor([[(c in own) / max(1, len(own)) for c in range(6)] for own in labels])
    kept = [0, 1, 3, 4]
    by_torch = torch.nn.functional.cross_entropy(logits[kept], targets[kept], label_smoothing=smoothing)
    assert float(found) == pytest.approx(float(by_torch), rel=1e-6)
    single = torch.tensor([0, 3, 5, 2, 1])
    lists = torch.stack([single, torch.full_like(single, -1)], dim=1)
    assert float(cross_entropy(logits, lists, label_smoothing=smoothing)) == pytest.approx(
        float(cross_entropy(logits, single, label_smoothing=smoothing)), rel=1e-6
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_joint_training_compares_an_image_with_the_classes_of_its_task(smoothing):
    generator = torch.Generator().manual_seed(0)
    heads = [
        ZeroShotHead(torch.nn.functional.normalize(torch.randn(size, 8, generator=generator)), torch.tensor(10.0))
        for size in (3, 4)
    ]
    embeds, joint = torch.randn(3, 8, generator=generator), JointHead(heads)
    labels = [[1], [3, 5], [4, 5, 6]]
    found = joint.loss(embeds, torch.from_numpy(pad(labels)), label_smoothing=smoothing)
    expected = loss_by_hand(joint(embeds), labels, smoothing, lambda own: range(3) if own[0] < 3 else range(3, 7))
    assert float(found) == pytest.approx(expected, rel=1e-6)


def test_joint_images_shift_every_class_of_an_image():
    few = [{"pixel_values": 0, "labels": 1}] * 2
    several = [{"pixel_values": 0, "labels": [0, 2, -1]}] * 2
    joint = JointImages([few, several], [4, 3])
    assert [joint[index]["labels"] for index in range(4)] == [1, 1, [4, 6], [4, 6]]


def test_scores_are_those_of_a_loop(scenes, model, processor):
    task = prepare_task(scenes, model, processor, splits=("test",))
    logits = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    labels = [sorted(own) for own in draw_scenes(20, 1)[1]]
    scores = score(predictions_from_logits(logits, torch.from_numpy(pad(labels))), task, "test")
    counted = [i for i in range(20) if labels[i]]
    assert scores.total == len(counted) < 20
    assert scores.correct == sum(int(logits[i].argmax()) in labels[i] for i in counted)
    assert scores.loss == pytest.approx(loss_by_hand(logits, labels), rel=1e-6)
    assert scores.mean_per_class is None
    shows = np.array([[c in own for c in range(4)] for own in labels])
    by_class = [average_precision_score(shows[:, c], logits[:, c].numpy()) for c in range(4)]
    assert scores.mean_average_precision == pytest.approx(np.mean(by_class), rel=1e-12)


def test_an_adaptive_sweep_measures_average_precision_where_it_is_exact(scenes, model, processor):
    prepared = prepare_task(scenes, model, processor, splits=("test",))
    theta_0, alphas = image_tower_weights(model), [step / 20 for step in range(21)]
    theta_1 = {name: x + 0.05 * torch.sign(x) for name, x in theta_0.items()}
    sweeps = [
        sweep(theta_0, theta_1, alphas, [prepared], model=image_tower(model))
        for sweep in (sweep_adaptively, sweep_alphas)
    ]
    adaptive, full = ({result.alpha: result for result in curve.results} for curve in sweeps)
    assert {result.exact for result in adaptive.values()} == {True, False}
    for alpha, result in adaptive.items():
        expected = full[alpha].mean_average_precision if result.exact else None
        assert result.mean_average_precision == expected


def test_a_learned_soup_spreads_the_target_too():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    labels = [[0, 3], [2], [1, 4], [0]]
    found = tempered_loss(logits, torch.from_numpy(pad(labels)), 0.5)
    assert float(found) == pytest.approx(loss_by_hand(0.5 * logits, labels), rel=1e-6)


def test_other_tasks_have_no_average_precision(task, model, processor):
    assert evaluate_tasks(model, [task], processor=processor)[0].mean_average_precision is None


@pytest.mark.parametrize(
    "keys", [{}, {"augmentation": "none"}, {"train_head": True}, {"eval_strategy": "steps", "eval_steps": 3}]
)
def test_the_trainer_trains_on_images_with_a_class(keys, scenes, model, processor, tmp_path):
    args = arguments(tmp_path, max_steps=3, warmup_steps=1, logging_steps=1, save_steps=100, **keys)
    trainer = PaintTrainer(model, args, train_task=scenes, eval_tasks=[scenes], processing_class=processor)
    before = trainer.get_train_dataloader().dataset
    assert len(before) == sum(bool(own) for own in classes_of(load_splits(part(scenes), ("train",))["train"]))
    batch = trainer.data_collator([before[i] for i in range(len(before))])
    tower = image_tower(model).eval()
    with torch.no_grad():
        embeds = tower(pixel_values=trainer.transform.normalize(batch["pixel_values"])).image_embeds
        labels = [[c for c in row if c >= 0] for row in batch["labels"].tolist()]
        expected = loss_by_hand(trainer.head(embeds), labels)
        assert float(trainer.head.loss(embeds, batch["labels"])) == pytest.approx(expected, rel=1e-5)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert np.isfinite(losses).all()
    if "eval_strategy" in keys:
        [metrics] = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
        assert 0 < metrics["eval_scenes_mean_average_precision"] <= 1


def test_a_head_is_trained_on_several_classes_per_image(tmp_path):
    """Its loss before the first step is that of its weights."""
    generator = torch.Generator().manual_seed(0)
    head = ClassificationHead(torch.randn(4, 6, generator=generator), CLASS_NAMES)
    embeds, labels = torch.randn(5, 6, generator=generator), [[0], [1, 2], [3], [0, 1, 3], [2]]
    expected = loss_by_hand(head(embeds).detach(), labels)
    args = arguments(tmp_path, max_steps=1, warmup_steps=0, logging_steps=1, save_steps=10)
    trainer = HeadTrainer(head, args, image_embeds=embeds, labels=torch.from_numpy(pad(labels)))
    trainer.train()
    [loss] = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.fixture(scope="module")
def runs(scenes, model_folder, tmp_path_factory):
    """A joint run on a task with one class per image and one with several."""
    folder = tmp_path_factory.mktemp("joint")
    colours, other = (write_task(folder / name, name, train=20, test=8) for name in ("colours", "other"))
    lists = write_scenes(
        folder / "places", "places", form="text", seed=5, splits={"validation": "test[:10]", "test": "test[10:]"}
    )
    options = PatchOptions(compare_ensemble=True, shift_tasks=[lists])
    return patch_joint(
        model_folder,
        [colours, part(scenes, splits={"train": "train", "validation": "test[:10]", "test": "test[10:]"})],
        [other],
        arguments(folder / "run", max_steps=3, warmup_steps=1, label_smoothing_factor=0.1),
        alphas=[0.0, 0.5, 1.0],
        options=options,
    )


def test_a_joint_run_shows_the_average_precision_everywhere(runs):
    curve = AlphaCurve.from_run(runs.run_folder)
    for alpha in (0.0, 0.5, 1.0):
        record = curve.get(alpha, "patching", "scenes", "test")
        assert 0 < record.mean_average_precision <= 1
        assert record.total == len(curve.correct_images(record))
        assert curve.get(alpha, "patching", "colours", "test").mean_average_precision is None
        assert curve.get(alpha, "shift", "places", "test").mean_average_precision is not None
    chosen = curve.get(runs.alpha, "patching", "scenes", "test")
    card = (runs.patched / "README.md").read_text()
    shown = f"mAP {100 * chosen.mean_average_precision:.2f}"
    assert shown in curve.to_markdown("test")
    assert shown in card
    assert "mAP is the mean average precision" in card
    assert f"→ {100 * chosen.mean_average_precision:.1f} %" in card
    assert "type: mean_average_precision" in card
    assert (runs.run_folder / "examples-scenes.png").exists()
    run = checked_report(runs.run_folder)["runs"][0]
    scenes = next(task for task in run["tasks"] if task["name"] == "scenes")
    assert scenes["metrics"]["mean_average_precision"][run["chosen"]] == chosen.mean_average_precision


def test_the_ensemble_at_its_ends_is_the_model(runs):
    lines = (runs.run_folder / "ensemble.jsonl").read_text().splitlines()
    curve = AlphaCurve.from_run(runs.run_folder)
    ends = [record for record in map(json.loads, lines) if record["task"] == "scenes" and record["alpha"] in (0, 1)]
    assert len(ends) == 4
    for record in ends:
        own = curve.get(record["alpha"], record["role"], record["task"], record["split"])
        assert record["mean_average_precision"] == pytest.approx(own.mean_average_precision, abs=1e-6)


def test_the_definition_in_the_documentation_is_one():
    [block] = re.findall(
        "```yaml\n(.*?)```", (Path(__file__).parents[2] / "docs" / "how_to" / "multi_label.md").read_text(), re.S
    )
    task = Task.from_dict(yaml.safe_load(block))
    assert (task.kind, task.label_column, len(task.class_names)) == ("multi-label", "objects", 4)
