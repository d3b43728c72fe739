"""How training images reach the device: workers, pictures decoded once, and crops resized in batches."""

import logging
import shutil
from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image

from drawn_tasks import write_task
from hf_paint import InputError, PaintTrainer, PaintTrainingArguments, Task, errors
from hf_paint.data.images import decode
from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.prefetching import DeviceCopies
from hf_paint.data.splits import load_splits
from hf_paint.data.training_images import TrainImages
from hf_paint.data.transforms import PixelTransform, random_box
from hf_paint.training import augmenting, workers
from hf_paint.training.augmenting import make_train_images
from hf_paint.training.workers import num_cores
from training_runs import StopAfter, arguments, largest_difference, losses, train


@pytest.fixture
def long(monkeypatch):
    """Treat every training as long enough for workers and for decoding pictures once."""
    monkeypatch.setattr(workers, "MIN_SECONDS", 0.0)
    monkeypatch.setattr(augmenting, "MIN_SAVED", 0)
    monkeypatch.setattr(errors, "_said", set())


@pytest.fixture
def split(task):
    return load_splits(task, ("train",))["train"]


def images_of(split, processor, folder, **keys):
    args = arguments(folder, **keys)
    return make_train_images(split, PixelTransform(processor), args, cache_dir=default_cache_dir())


class Recorder(PaintTrainer):
    """Keeps the pixels and the labels that the model sees."""

    def features(self, model, inputs):
        self.seen = [*getattr(self, "seen", ()), (inputs["pixel_values"].clone(), inputs["labels"].clone())]
        return super().features(model, inputs)


@pytest.mark.parametrize(("where", "numbers"), [("cpu", (0, 3)), ("cuda", (0, None))])
def test_workers_change_nothing(model, processor, task, tmp_path, where, numbers, long):
    """Three epochs, with dropout, which draws from the generator that seeds workers."""
    runs = []
    for number in numbers:
        copied = deepcopy(model)
        keys = {"use_peft": True, "lora_dropout": 0.2, "dataloader_num_workers": number, "max_steps": 11}
        keys |= {"augmentation_device": where, "dataloader_persistent_workers": number == 3}
        trainer = train(copied, processor, task, tmp_path / f"{number}", **keys)
        assert trainer.args.dataloader_num_workers == (max(1, num_cores() - 1) if number is None else number)
        runs.append((losses(trainer), trainer.model.merge_and_unload()))
    for found, tower in runs[1:]:
        assert found == runs[0][0]
        assert largest_difference(tower, runs[0][1]) == 0.0


@pytest.mark.parametrize("cached", [True, False])
def test_crops_resized_on_the_training_device_are_those_of_pillow(model, processor, tmp_path, cached, monkeypatch):
    monkeypatch.setattr(augmenting, "MIN_SAVED", 0 if cached else 10**9)
    task = write_task(tmp_path, train=20, size=(150, 100), splits={"validation": None})
    keys = {"train_task": task, "processing_class": processor}
    args = arguments(tmp_path / "run", augmentation_device="cuda", seed=3, max_steps=10, per_device_train_batch_size=5)
    trainer = Recorder(model, args, **keys)
    trainer.train()
    split = load_splits(task, ("train",))["train"]
    for epoch in range(2):
        images, crops = [decode(split, index) for index in range(20)], []
        for index, image in enumerate(images):
            box = random_box(*image.size, np.random.default_rng((3, epoch, index)))
            crops.append(np.asarray(image.crop(box).resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1))
        expected = torch.from_numpy(np.stack(crops)).int()
        seen = trainer.seen[4 * epoch : 4 * epoch + 4]
        pixels, labels = (torch.cat(column) for column in zip(*seen, strict=True))
        assert pixels.dtype == torch.uint8
        differences = (pixels[:, None].int() - expected[None]).abs()
        order = differences.float().mean(dim=(2, 3, 4)).argmin(1)
        assert sorted(order.tolist()) == list(range(20))
        assert labels.tolist() == [split.labels()[index] for index in order]
        assert differences[torch.arange(20), order].max() <= 1


def test_resumed_equals_uninterrupted_with_crops_resized_in_batches(model, processor, task, tmp_path, long):
    """Interrupted at step 7 of 14, in the middle of an epoch of 5 steps; bit for bit."""
    interrupted, resumed = deepcopy(model), deepcopy(model)
    keys = {"max_steps": 14, "save_strategy": "steps", "save_steps": 7, "augmentation_device": "cuda"}
    whole = train(model, processor, task, tmp_path / "whole", **keys)
    train(interrupted, processor, task, tmp_path / "parts", callbacks=[StopAfter(7)], **keys)
    shutil.rmtree(tmp_path / "parts" / "checkpoint-14", ignore_errors=True)
    checkpoint = str(tmp_path / "parts" / "checkpoint-7")
    rest = train(resumed, processor, task, tmp_path / "parts", resume=checkpoint, **keys)
    assert losses(rest) == losses(whole)
    assert largest_difference(model, resumed) == 0.0


def test_pictures_are_kept_if_that_saves_enough(split, processor, tmp_path, monkeypatch):
    def kept(**keys):
        return images_of(split, processor, tmp_path, **keys).pictures.cache_dir is not None

    number = len(split.rows)
    monkeypatch.setattr(augmenting, "MIN_SAVED", number)
    assert kept(max_steps=-1, num_train_epochs=2)
    assert not kept(max_steps=-1, num_train_epochs=1.9)
    assert kept(max_steps=number, per_device_train_batch_size=1, gradient_accumulation_steps=2)
    assert not kept(max_steps=number, per_device_train_batch_size=1)
    monkeypatch.setattr(augmenting.Pictures, "fits_in_memory", lambda pictures: False)
    assert not kept(max_steps=-1, num_train_epochs=2)
    assert kept(max_steps=-1, num_train_epochs=2, augmentation_device="cuda")
    monkeypatch.setattr(augmenting.Pictures, "fits_on_disk", lambda pictures, cache_dir: False)
    assert not kept(max_steps=-1, num_train_epochs=2, augmentation_device="cuda")


def test_words_that_change_with_the_epoch_are_not_kept(processor, tmp_path, long):
    task = write_task(tmp_path / "data", splits={"validation": None}, attack={"probability": 1.0})
    images = images_of(load_splits(task, ("train",))["train"], processor, tmp_path, augmentation_device="cuda")
    assert images.pictures.cache_dir is None
    first, second = (images.example(0, epoch)["crop"] for epoch in range(2))
    assert first.shape != second.shape or not np.array_equal(first, second)


@pytest.mark.parametrize(
    ("device", "limit", "where"),
    [("cpu", "200", "pillow"), ("cuda", "200", "device"), ("mps", "200", "device"), ("cuda", "1e-9", "pillow")],
)
def test_auto_resizes_on_a_gpu_if_the_pictures_fit_into_the_cache(
    split, processor, tmp_path, monkeypatch, device, limit, where
):
    monkeypatch.setenv("HF_PAINT_CACHE_LIMIT", limit)
    args = arguments(tmp_path)
    monkeypatch.setattr(PaintTrainingArguments, "device", torch.device(device))
    images = make_train_images(split, PixelTransform(processor), args, cache_dir=tmp_path)
    assert images.resize == (where == "pillow")
    assert (images.pictures.max_side is None) == (where == "pillow")


def test_larger_models_get_larger_pictures(split, processor, tmp_path):
    transform = PixelTransform(processor)
    for edge, side in ((224, 256), (336, 384), (32, 256)):
        transform.crop_size = edge
        args = arguments(tmp_path, augmentation_device="cuda")
        assert make_train_images(split, transform, args, cache_dir=tmp_path).pictures.max_side == side


def test_other_filters_are_pillows(split, processor, tmp_path, monkeypatch):
    transform = PixelTransform(processor)
    transform.resample = Image.Resampling.LANCZOS
    with pytest.raises(InputError, match="cannot resize with the filter lanczos .* only with bilinear and bicubic"):
        make_train_images(split, transform, arguments(tmp_path, augmentation_device="cuda"), cache_dir=tmp_path)
    args = arguments(tmp_path)
    monkeypatch.setattr(PaintTrainingArguments, "device", torch.device("cuda"))
    assert make_train_images(split, transform, args, cache_dir=tmp_path).resize


def test_what_has_no_crops_to_resize_is_refused(model, processor, task, tmp_path):
    with pytest.raises(InputError, match="It needs `augmentation: paint`"):
        arguments(tmp_path, augmentation="none", augmentation_device="cuda")
    with pytest.raises(InputError, match="augmentation_device must be one of auto, cpu, cuda, got 'gpu'"):
        arguments(tmp_path, augmentation_device="gpu")
    stream = Task.from_dict(task.to_dict() | {"streaming": True, "splits": {"validation": None}})
    with pytest.raises(InputError, match="streams, so its images are augmented on the CPU"):
        train(model, processor, stream, tmp_path / "run", augmentation_device="cuda")


def chosen(model, processor, folder, **options):
    args = arguments(folder, **options.pop("keys", {}))
    return PaintTrainer(model, args, processing_class=processor, **options).args.dataloader_num_workers


def test_workers_are_chosen_where_they_pay_and_said_once(model, processor, task, tmp_path, long, monkeypatch, caplog):
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    with caplog.at_level(logging.INFO):
        assert chosen(model, processor, tmp_path, train_task=task) == 15
        assert chosen(model, processor, tmp_path, train_task=task) == 15
    assert caplog.text.count("15 worker processes prepare the training images") == 1
    assert chosen(model, processor, tmp_path, train_task=task, keys={"dataloader_num_workers": 0}) == 0
    assert chosen(model, processor, tmp_path, train_task=task, keys={"augmentation": "none"}) == 0  # decoded before
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert chosen(model, processor, tmp_path, train_task=task) == 3
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 9 * 16 * 32 * 32 * 3}))
    assert chosen(model, processor, tmp_path, train_task=task) == 2  # two batches of each, in half of the memory
    monkeypatch.setattr(workers, "MIN_SECONDS", 1e9)
    assert chosen(model, processor, tmp_path, train_task=task) == 0


def test_data_of_the_user_are_read_in_their_own_process(model, processor, tmp_path, long):
    from hf_paint import build_zero_shot_head

    rows = [{"pixel_values": torch.zeros(3, 32, 32, dtype=torch.uint8), "labels": 0}] * 8
    head = build_zero_shot_head(model, processor.tokenizer, ["a", "b"], ["{}"])
    assert chosen(model, processor, tmp_path, train_dataset=rows, head=head) == 0


def test_a_gpu_gets_batches_that_are_copied_on_a_stream_of_their_own(model, processor, task, tmp_path, monkeypatch):
    """On a CPU, which stands for the GPU: every batch passes through the copies once, none through accelerate."""
    calls = []
    monkeypatch.setattr(DeviceCopies, "start", lambda copies, batch: calls.append(len(batch["labels"])) or dict(batch))
    monkeypatch.setattr(DeviceCopies, "finish", lambda copies, batch: batch)
    trainer = PaintTrainer(model, arguments(tmp_path), train_task=task, processing_class=processor)
    trainer.copies.stream = object()
    assert trainer.get_train_dataloader().device is None
    trainer.train()
    assert calls == [16, 16, 16, 16, 8, 16]


def test_images_without_pictures_of_their_own_are_decoded_each_time(split, processor):
    images = TrainImages(split, PixelTransform(processor), "paint", seed=0)
    assert images.pictures.cache_dir is None
