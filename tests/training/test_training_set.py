"""Joint training: the loss, the sampling rules, and resumed runs."""

import math
import shutil
from collections import Counter
from copy import deepcopy

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from torch.nn import functional

from drawn_tasks import write_task
from hf_paint import InputError, PaintTrainer, PaintTrainingArguments, Task, ZeroShotHead, build_zero_shot_head
from hf_paint.data.joint_images import JointImages, images_per_epoch
from hf_paint.data.splits import load_splits
from hf_paint.data.training_images import TrainImages
from hf_paint.data.transforms import PixelTransform
from hf_paint.models.heads import JointHead
from training_runs import StopAfter, arguments, largest_difference, losses, train


SIZES = (3, 5, 2)
"""Classes of the three tasks whose losses are compared."""


def make_head(num_classes, generator, scale=20.0):
    rows = torch.randn(num_classes, 8, generator=generator)
    return ZeroShotHead(functional.normalize(rows, dim=-1), torch.tensor(scale))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def small_task(tmp_path):
    """24 images in three classes: the colours of the other task under new names."""
    return write_task(tmp_path / "data", "small", train=24, test=12, names=("one", "two", "three"), seed=3)


def written_out_loss(image_embeds, weights, scale, tasks, labels, smoothing):
    """One example after the other in float64: the target is (1 - s) on the label and s spread over the task."""
    total = 0.0
    for embed, task, label in zip(image_embeds.double().numpy(), tasks, labels, strict=True):
        logits = scale * weights[task].double().numpy() @ (embed / np.linalg.norm(embed))
        log_p = logits - math.log(np.exp(logits - logits.max()).sum()) - logits.max()
        total -= (1 - smoothing) * log_p[label] + smoothing * log_p.mean()
    return total / len(labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_loss_of_a_mixed_batch_equals_a_loop_over_its_examples(generator, smoothing):
    heads = [make_head(size, generator) for size in SIZES]
    tasks = [0, 2, 1, 1, 0, 2, 1, 1, 1]
    labels = [2, 0, 4, 0, 0, 1, 3, 3, 2]
    image_embeds = (5 * torch.randn(len(tasks), 8, generator=generator)).requires_grad_()
    offsets = [0, 3, 8]
    joint_labels = torch.tensor([offsets[task] + label for task, label in zip(tasks, labels, strict=True)])
    loss = JointHead(heads).loss(image_embeds, joint_labels, label_smoothing=smoothing)
    weights = [head.weight for head in heads]
    expected = written_out_loss(image_embeds.detach(), weights, 20.0, tasks, labels, smoothing)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)

    loss.backward()
    for row in range(len(tasks)):  # the gradient of each example is that of its own head
        alone = image_embeds.detach()[row : row + 1].requires_grad_()
        single = heads[tasks[row]].loss(alone, torch.tensor([labels[row]]), label_smoothing=smoothing)
        (expected_gradient,) = torch.autograd.grad(single / len(tasks), alone)
        torch.testing.assert_close(image_embeds.grad[row], expected_gradient[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_loss_of_one_head_is_its_own_bit_for_bit(generator, smoothing, bf16):
    head = make_head(7, generator)
    labels = torch.randint(7, (33,), generator=generator)
    found = []
    for one in (head, JointHead([head])):
        image_embeds = torch.randn(33, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = one.loss(image_embeds, labels, label_smoothing=smoothing)
        loss.backward()
        found.append((loss.detach(), image_embeds.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])
    expected = functional.cross_entropy(head(image_embeds), labels, label_smoothing=smoothing)
    torch.testing.assert_close(found[0][0], expected.detach(), rtol=0.02 if bf16 else 1e-6, atol=0)


def test_heads_of_two_models_are_refused(generator):
    with pytest.raises(InputError, match="have different logit scales"):
        JointHead([make_head(2, generator), make_head(2, generator, scale=10.0)])


SHARES = [
    ("proportional", 2.0, (10, 30, 60), [10, 30, 60]),
    ("uniform", 2.0, (10, 30, 60), [34, 33, 33]),  # 33.3 each: the first remainder wins
    ("temperature", 1.0, (10, 30, 60), [10, 30, 60]),
    ("temperature", 2.0, (16, 64, 144), [37, 75, 112]),  # 224 * (4, 8, 12) / 24 = 37.3, 74.7, 112
    ("temperature", 3.0, (8, 64, 1000), [134, 268, 670]),  # 1072 * (2, 4, 10) / 16
    ("temperature", math.inf, (10, 30, 60), [34, 33, 33]),
    ("temperature", 0.5, (10, 20), [6, 24]),  # 30 * (1, 4) / 5
    ("proportional", 2.0, (7, 1_281_167, 50_000), [7, 1_281_167, 50_000]),
]


@pytest.mark.parametrize(("sampling", "temperature", "sizes", "expected"), SHARES)
def test_shares_of_an_epoch(sampling, temperature, sizes, expected):
    assert images_per_epoch(sizes, sampling, temperature=temperature) == expected


def test_a_task_without_images_is_refused():
    with pytest.raises(
        InputError, match=r"`sampling_temperature: 0.1`, a task with 2 images would get none of the 102 images"
    ):
        images_per_epoch([2, 100], "temperature", temperature=0.1)


def rows(count, task):
    return [{"pixel_values": (task, row), "labels": row % 2} for row in range(count)]


@pytest.mark.parametrize("sampling", ["uniform", "temperature"])
def test_every_image_comes_equally_often(sampling):
    """After each of forty epochs: 7, 50 and 143 images, 200 in an epoch."""
    sizes = (7, 50, 143)
    joint = JointImages([rows(size, task) for task, size in enumerate(sizes)], [2, 2, 2], sampling=sampling, seed=5)
    seen, orders = Counter(), set()
    for epoch in range(40):
        joint.set_epoch(epoch)
        examples = [joint[index] for index in range(len(joint))]
        assert len(examples) == 200
        assert all(e["labels"] == 2 * e["pixel_values"][0] + e["pixel_values"][1] % 2 for e in examples)
        seen.update(example["pixel_values"] for example in examples)
        orders.add(tuple(example["pixel_values"] for example in examples))
        for task, size in enumerate(sizes):
            counts = [seen[task, row] for row in range(size)]
            assert max(counts) - min(counts) <= 1
    assert len(orders) == 40
    shares = [sum(seen[task, row] for row in range(size)) / 40 for task, size in enumerate(sizes)]
    assert shares == images_per_epoch(sizes, sampling, temperature=2.0)
    joint.set_epoch(3)
    again = JointImages([rows(size, task) for task, size in enumerate(sizes)], [2, 2, 2], sampling=sampling, seed=5)
    again.set_epoch(3)  # it has seen no epoch before
    assert [joint[index] for index in range(200)] == [again[index] for index in range(200)]


def test_proportional_is_plain_concatenation():
    joint = JointImages([rows(3, 0), rows(5, 1)], [2, 2])
    for epoch in (0, 4):
        joint.set_epoch(epoch)
        found = [joint[index]["pixel_values"] for index in range(8)]
        assert found == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]


def test_an_image_that_comes_twice_in_an_epoch_is_augmented_twice(processor, task, tmp_path):
    small_task = write_task(tmp_path, "large", train=24, size=(200, 180))
    images = [
        TrainImages(load_splits(one, ("train",))["train"], PixelTransform(processor), "paint", seed=1)
        for one in (small_task, task)
    ]
    joint = JointImages(images, [4, 4], sampling="uniform", seed=1)
    first = [joint[index] for index in range(joint.bounds[1])]
    assert len({example["pixel_values"].numpy().tobytes() for example in first}) == len(first) == 47  # of 22


def test_a_list_of_one_task_is_the_task(model, processor, task, tmp_path):
    other = deepcopy(model)
    alone = train(model, processor, task, tmp_path / "alone")
    listed = train(other, processor, [task], tmp_path / "listed", task_sampling="uniform")
    assert losses(listed) == losses(alone)
    assert largest_difference(model, other) == 0.0


def test_the_first_step_equals_a_loop_over_its_examples(model, processor, task, small_task, tmp_path):
    keys = {"max_steps": 1, "warmup_steps": 0, "augmentation": "none", "per_device_train_batch_size": 94}
    reference = deepcopy(model).eval()
    trainer = train(model, processor, [task, small_task], tmp_path / "run", label_smoothing_factor=0.1, **keys)
    embeds, weights, tasks, labels = [], [], [], []
    for number, one in enumerate((task, small_task)):
        split = load_splits(one, ("train",))["train"]
        head = build_zero_shot_head(reference, processor.tokenizer, split.class_names, one.templates)
        pixels = processor.image_processor(split.rows["image"][:], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            embeds.append(reference.get_image_features(pixel_values=pixels).pooler_output)
        weights.append(head.weight)
        tasks += [number] * len(split.rows)
        labels += split.rows["label"][:]
    expected = written_out_loss(torch.cat(embeds), weights, float(head.logit_scale), tasks, labels, 0.1)
    assert losses(trainer) == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("workers", [{}, {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}])
def test_resumed_equals_uninterrupted(model, processor, task, small_task, tmp_path, workers):
    """Interrupted at step 8 of 14, in the middle of the second epoch of 6 steps; bit for bit."""
    interrupted, resumed = deepcopy(model), deepcopy(model)
    keys = {"max_steps": 14, "save_strategy": "steps", "save_steps": 8, "task_sampling": "uniform"} | workers
    tasks = [task, small_task]
    whole = train(model, processor, tasks, tmp_path / "whole", **keys)
    train(interrupted, processor, tasks, tmp_path / "parts", callbacks=[StopAfter(8)], **keys)
    shutil.rmtree(tmp_path / "parts" / "checkpoint-14", ignore_errors=True)
    checkpoint = str(tmp_path / "parts" / "checkpoint-8")
    rest = train(resumed, processor, tasks, tmp_path / "parts", resume=checkpoint, **keys)
    assert losses(rest) == losses(whole)
    assert largest_difference(model, resumed) == 0.0
    assert largest_difference(model, interrupted) > 0


def test_workers_change_nothing(model, processor, task, small_task, tmp_path):
    other = deepcopy(model)
    keys = {"max_steps": 14, "task_sampling": "temperature"}
    workers = {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}
    here = train(model, processor, [task, small_task], tmp_path / "here", **keys)
    there = train(other, processor, [task, small_task], tmp_path / "there", **keys, **workers)
    assert losses(there) == losses(here)
    assert largest_difference(model, other) == 0.0


def accuracy_and_loss(model, processor, task):
    """Return accuracy and loss on the training images, with the pixels of the processor."""
    split = load_splits(task, ("train",))["train"]
    head = build_zero_shot_head(model, processor.tokenizer, split.class_names, task.templates)
    pixels = processor.image_processor(split.rows["image"][:], return_tensors="pt")["pixel_values"]
    labels = torch.tensor(split.rows["label"][:])
    with torch.no_grad():
        logits = head(model.eval().get_image_features(pixel_values=pixels).pooler_output)
    return float((logits.argmax(-1) == labels).float().mean()), float(functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("sampling", ["proportional", "uniform"])
def test_both_tasks_are_learnt(model, processor, task, small_task, tmp_path, sampling):
    before = [accuracy_and_loss(model, processor, one) for one in (task, small_task)]
    keys = {"max_steps": 40, "warmup_steps": 4, "task_sampling": sampling}
    train(model, processor, [task, small_task], tmp_path / "run", **keys)
    after = [accuracy_and_loss(model, processor, one) for one in (task, small_task)]
    for (accuracy, loss), (new_accuracy, new_loss) in zip(before, after, strict=True):
        assert new_accuracy > accuracy + 0.1
        assert new_loss < 0.9 * loss


def test_what_cannot_be_trained_on_together(model, processor, task, other_task, tmp_path):
    def make(tasks):
        return PaintTrainer(model, arguments(tmp_path), train_task=tasks, processing_class=processor)

    stream = Task.from_dict(task.to_dict() | {"name": "stream", "streaming": True, "splits": {"validation": None}})
    with pytest.raises(InputError, match="Task 'stream' streams, so it can only be trained alone"):
        make([other_task, stream])
    with pytest.raises(InputError, match="Task 'colours' is listed twice"):
        make([task, other_task, task])
    with pytest.raises(InputError, match="either `train_task`"):
        make([])
    assert len(make([stream]).head.weight) == 4


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"sampling_temperature": 0}, "sampling_temperature must be above 0, got 0"),
        ({"sampling_temperature": math.nan}, "must be above 0, got nan"),
        ({"task_sampling": "unifrom"}, "got 'unifrom'. Did you mean 'uniform'?"),
    ],
)
def test_arguments_are_checked(keys, message):
    with pytest.raises(InputError, match=message):
        PaintTrainingArguments(output_dir="x", use_cpu=True, **keys)


def test_arguments_are_recorded_where_they_are_given():
    args = PaintTrainingArguments(output_dir="x", use_cpu=True, task_sampling="temperature", sampling_temperature=3)
    assert args.given() == {
        "output_dir": "x",
        "use_cpu": True,
        "task_sampling": "temperature",
        "sampling_temperature": 3,
    }


def test_the_logits_of_a_prediction_are_those_of_all_classes(model, processor, task, small_task, tmp_path):
    options = {"train_task": [task, small_task], "processing_class": processor}
    trainer = PaintTrainer(model, arguments(tmp_path), **options)
    assert trainer.predict(trainer.train_dataset).predictions.shape == (94, 7)


def test_card_of_several_tasks(model, processor, task, small_task, tmp_path):
    tasks = [task, Task.from_dict(small_task.to_dict() | {"citation": "@misc{small}"})]
    args = arguments(tmp_path, task_sampling="uniform")
    trainer = PaintTrainer(model, args, train_task=tasks, processing_class=processor)
    trainer.train_tasks = [Task.from_dict(one.to_dict() | {"dataset": "o/d", "data_files": None}) for one in tasks]
    trainer.create_model_card()
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.datasets == ["o/d"]
    for words in (
        "# CLIP fine-tuned on colours and small\n",
        "was fine-tuned on colours and small against frozen zero-shot heads made",
        "trained jointly: each image was compared with the classes of its own task",
        "task_sampling: uniform",
        "| small | [o/d]",
        "@misc{small}",
    ):
        assert words in card.content
    assert "sampling_temperature" not in card.content
    PaintTrainer(model, args, train_task=task, processing_class=processor).create_model_card()
    assert "task_sampling" not in ModelCard.load(tmp_path / "README.md").content
