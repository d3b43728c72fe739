"""Images of other tasks that are mixed into a training: how many, which, and what they are compared with."""

import json
from collections import Counter
from copy import deepcopy

import pytest
import torch
import yaml
from torch.nn import functional

from drawn_tasks import write_task, write_task_yaml
from hf_paint import InputError, PatchOptions, build_zero_shot_head, patch_parallel, patch_sequential, patch_single
from hf_paint.cli.main import main
from hf_paint.data.joint_images import JointImages
from hf_paint.data.splits import load_splits
from hf_paint.patching import fine_tuning
from patch_runs import arguments as run_arguments
from training_runs import StopAfter, largest_difference, losses, make_trainer, train


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A task to learn and two to replay, of other sizes and with other classes."""
    folder = tmp_path_factory.mktemp("replayed")
    return [
        write_task(folder, "learned", train=60, test=8, splits={"validation": None}),
        write_task(folder, "kept", train=24, test=8, seed=1, names=("blue", "red"), splits={"validation": None}),
        write_task(folder, "known", train=100, test=8, seed=2, splits={"validation": None}),
    ]


def rows(count, task):
    return [{"pixel_values": (task, row), "labels": 0} for row in range(count)]


@pytest.mark.parametrize("sampling", ["proportional", "uniform"])
def test_an_epoch_has_every_learned_image_and_the_share_of_replayed_ones(sampling):
    """Of 60 and 30 images that are learned, and as many from 7 as from 400 images that are replayed."""
    parts = [rows(60, 0), rows(30, 1), rows(7, 2), rows(400, 3)]
    images = JointImages(parts, [1, 2, 3, 4], sampling=sampling, seed=3, num_replayed=2, replay_share=0.4)
    seen = Counter()
    for epoch in range(12):
        images.set_epoch(epoch)
        found = [images[index] for index in range(len(images))]
        tasks = Counter(example["pixel_values"][0] for example in found)
        assert (tasks[2] + tasks[3]) / len(found) == 0.4
        assert tasks[2] == tasks[3]
        assert tasks[0] + tasks[1] == 90
        assert {(e["pixel_values"][0], e["labels"]) for e in found} == {(0, 0), (1, 1), (2, 3), (3, 6)}
        seen.update(example["pixel_values"] for example in found)
    for task, size in ((2, 7), (3, 400)):
        counts = [seen[task, row] for row in range(size)]
        assert max(counts) - min(counts) <= 1
    if sampling == "proportional":
        assert {seen[task, row] for task, size in ((0, 60), (1, 30)) for row in range(size)} == {12}


def test_the_steps_of_an_epoch_share_its_replayed_images(model, processor, three, tmp_path):
    """26 of 86 images are 30 %; how many there are in a step is up to chance."""
    keys = {"per_device_train_batch_size": 20, "replay_share": 0.3, "replay_tasks": three[1:], "augmentation": "none"}
    trainer = make_trainer(model, processor, three[0], tmp_path, **keys)
    loader, seen = trainer.get_train_dataloader(), []
    for epoch in range(3):
        trainer.train_dataset.set_epoch(epoch)
        loader.set_epoch(epoch)
        seen.append([int((batch["labels"] >= 4).sum()) for batch in loader])
    assert [sum(steps) for steps in seen] == [26, 26, 26]
    assert [len(steps) for steps in seen] == [5, 5, 5]
    assert len({step for steps in seen for step in steps[:-1]}) > 2


def test_a_step_compares_each_image_with_the_classes_of_its_own_task(model, processor, three, tmp_path):
    """One step on all 80 images of an epoch: 60 that are learned, and 10 each that are replayed."""
    reference = deepcopy(model).eval()
    keys = {"max_steps": 1, "warmup_steps": 0, "augmentation": "none", "per_device_train_batch_size": 80}
    trainer = train(model, processor, three[0], tmp_path, replay_tasks=three[1:], **keys)
    images, expected = trainer.train_dataset, []
    images.set_epoch(0)
    heads = []
    for task in three:
        names = load_splits(task, ("train",))["train"].class_names
        heads.append(build_zero_shot_head(reference, processor.tokenizer, names, task.templates))
    for index in range(len(images)):
        number = (index >= 60) + (index >= 70)
        example = images[index]
        label = torch.tensor([example["labels"] - (0, 4, 6)[number]])
        pixels = trainer.transform.normalize(torch.as_tensor(example["pixel_values"])[None])
        embeds = reference.get_image_features(pixel_values=pixels).pooler_output
        expected.append(float(functional.cross_entropy(heads[number](embeds), label).detach()))
    assert len(images) == 80
    assert losses(trainer) == pytest.approx([sum(expected) / 80], abs=1e-5)


def test_a_resumed_training_replays_the_same_images(model, processor, three, tmp_path):
    """Interrupted in the middle of the second epoch of 5 steps, bit for bit."""
    other = deepcopy(model)
    keys = {"max_steps": 9, "save_strategy": "steps", "save_steps": 7, "replay_tasks": three[1:]}
    whole = train(model, processor, three[0], tmp_path / "whole", **keys)
    train(deepcopy(other), processor, three[0], tmp_path / "cut", callbacks=[StopAfter(7)], **keys)
    resumed = train(other, processor, three[0], tmp_path / "cut", resume=str(tmp_path / "cut/checkpoint-7"), **keys)
    assert losses(resumed) == losses(whole)
    assert largest_difference(model, other) == 0


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train_head": True}, "`train_head` trains the head of one task"),
        ({"train_sampling_strategy": "sequential"}, "would come after all other images"),
        ({"replay_share": 0.01}, "1 images are replayed beside the 60 of an epoch, which leaves none for one of 2"),
        ({"replay_share": 1.0}, "replay_share must be above 0 and below 1, got 1"),
        ({"train_task": None}, "Pass a `train_task`"),
    ],
)
def test_what_cannot_be_replayed_is_refused(keys, message, model, processor, three, tmp_path):
    with pytest.raises(InputError, match=message):
        make_trainer(model, processor, keys.pop("train_task", three[0]), tmp_path, replay_tasks=three[1:], **keys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda learned, kept, other: {"replay_tasks": [learned]}, "both `patching_tasks` and `replay_tasks`"),
        (lambda learned, kept, other: {"replay_tasks": [other], "shift_tasks": [other]}, "both `shift_tasks` and"),
        (lambda learned, kept, other: {"replay_tasks": [kept | {"templates": ["a {}."]}]}, "with different data"),
        (lambda learned, kept, other: {"replay_tasks": [kept, kept]}, "'kept' is listed twice"),
        (
            lambda learned, kept, other: {"replay_tasks": [other | {"splits": {"train": "train", "test": "train"}}]},
            "for both train and test",
        ),
        (lambda learned, kept, other: {"replay_tasks": [other | {"splits": {"train": None}}]}, "has no train split"),
    ],
)
def test_a_run_refuses_what_it_cannot_replay(options, message, model_folder, three, tmp_path):
    learned, kept, other = (task.to_dict() for task in three)
    with pytest.raises(InputError, match=message):
        patch_single(
            model_folder,
            learned,
            [kept],
            run_arguments(tmp_path / "run"),
            alphas=[1.0],
            selection="none",
            options=PatchOptions(**options(learned, kept, other)),
        )


@pytest.mark.parametrize("patch", [patch_sequential, patch_parallel])
def test_every_training_of_a_strategy_replays(patch, model_folder, three, tmp_path, monkeypatch):
    seen = []

    def note(model, args, *, train_task, replay_tasks, **options):
        seen.append([[task.name for task in train_task], [task.name for task in replay_tasks]])
        raise InterruptedError

    monkeypatch.setattr(fine_tuning, "PaintTrainer", note)
    automatic = {"splits": {"validation": "auto"}}
    learned, kept, known = (task.to_dict() | automatic for task in three)
    options = PatchOptions(replay_tasks=[known])
    with pytest.raises(InterruptedError):
        patch(model_folder, [learned], [kept], run_arguments(tmp_path / "run"), alphas=[1.0], options=options)
    assert seen == [[["learned"], ["known"]]]


def test_a_recipe_that_keeps_what_the_model_knew(model_folder, tmp_path, capsys):
    """A joint run through the command line: its plan, its recipe, what it is bound to, and its card."""
    learned, more, kept = (
        write_task_yaml(tmp_path / "data", name, train=40, test=8, seed=seed)
        for seed, name in enumerate(("learned", "more", "kept"))
    )
    recipe = {
        **{"model": model_folder, "strategy": "joint", "patching_tasks": [learned, more], "supported_tasks": [kept]},
        **{"replay_tasks": [kept], "replay_share": 0.5, "regularization": {"ldifs": 10, "l2_sp": "1e-2"}},
        **{"alphas": [0, 0.5, 1], "max_steps": 3, "warmup_steps": 1, "per_device_train_batch_size": 8},
        **{"use_cpu": True, "disable_tqdm": True, "num_examples": 0, "output_dir": str(tmp_path / "run")},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert main(["patch", "--config", str(path), "--dry_run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    # 72 images of each task are learned and replayed in an epoch; 24 are seen, of which 12 are of the 36 to replay
    assert "Training on learned, more, mixed with kept: 3 steps of up to 8 images" in shown
    assert "0.333 epochs of kept" in shown
    assert main(["patch", "--config", str(path)]) == 0
    written = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert written["regularization"] == {"ldifs": 10.0, "l2_sp": 0.01}
    assert written["replay_share"] == 0.5
    assert written["replay_tasks"][0]["name"] == "kept"
    content = json.loads((tmp_path / "run" / "identity.json").read_text())["content"]
    assert "the train split of task 'kept'" in content
    card = " ".join((tmp_path / "run" / "patched" / "README.md").read_text().split())
    assert "In training, 50 % of the images were train images of kept, each compared with the classes" in card
    assert "penalised changes of features ([LDIFS](https://arxiv.org/abs/2308.13320)), with weight 10 and of" in card
    assert "replay_tasks: [kept]" in card
