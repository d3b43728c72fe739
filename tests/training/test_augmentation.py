"""`augmentation: paint` against torchvision's RandomResizedCrop, written out."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from drawn_tasks import write_task
from hf_paint import PaintTrainer, PaintTrainingArguments
from hf_paint.data.images import decode
from hf_paint.data.splits import load_splits
from hf_paint.data.training_images import TrainImages
from hf_paint.data.transforms import PixelTransform


SCALE, RATIO = (0.9, 1.0), (3 / 4, 4 / 3)
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def get_params(width, height, generator):
    """The box (left, top, width, height) of `torchvision.transforms.RandomResizedCrop.get_params`.

    Our generator draws the left side before the top, which torchvision draws first; the two are independent.
    """
    for _ in range(10):
        target_area = width * height * generator.uniform(SCALE[0], SCALE[1])
        aspect_ratio = math.exp(generator.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w = round(math.sqrt(target_area * aspect_ratio))
        h = round(math.sqrt(target_area / aspect_ratio))
        if 0 < w <= width and 0 < h <= height:
            left = int(generator.integers(0, width - w + 1))
            return left, int(generator.integers(0, height - h + 1)), w, h
    in_ratio = float(width) / float(height)
    if in_ratio < min(RATIO):
        w, h = width, round(width / min(RATIO))
    elif in_ratio > max(RATIO):
        w, h = round(height * max(RATIO)), height
    else:
        w, h = width, height
    return (width - w) // 2, (height - h) // 2, w, h


def crop(image, size, key):
    """The uint8 pixels (3, size, size) of torchvision's crop, with Pillow."""
    left, top, w, h = get_params(*image.size, np.random.default_rng(key))
    square = image.crop((left, top, left + w, top + h)).resize((size, size), Image.Resampling.BICUBIC)
    return np.array(square).transpose(2, 0, 1)


class NeverFits:
    """A generator whose boxes are larger than the image."""

    def uniform(self, low, high):
        return 100 * high


@pytest.mark.parametrize(
    ("size", "box"),
    {
        (500, 333): (28, 0, 472, 333),
        (333, 500): (0, 28, 333, 472),
        (400, 300): (0, 0, 400, 300),
        (300, 300): (0, 0, 300, 300),
        (1, 10_000): (0, 4999, 1, 5000),
        (10_000, 1): (4999, 0, 5000, 1),
    }.items(),
)
def test_after_ten_attempts_the_crop_is_the_centre(size, box, processor, monkeypatch):
    boxes, original = [], Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda self, box: boxes.append(box) or original(self, box))
    assert PixelTransform(processor).random_resized_crop(Image.new("RGB", size), NeverFits()).shape == (3, 32, 32)
    left, top, w, h = get_params(*size, NeverFits())
    assert boxes == [(left, top, left + w, top + h)] == [box]


@pytest.mark.parametrize("size", [(150, 100), (136, 100), (100, 136), (110, 100)])
def test_boxes_are_those_of_torchvision_for_each_seed_epoch_and_index(processor, tmp_path, monkeypatch, size):
    task = write_task(tmp_path, train=10, size=size, splits={"validation": None})
    split = load_splits(task, ("train",))["train"]
    boxes, original = [], Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda self, box: boxes.append(box) or original(self, box))
    expected = []
    for seed in range(2):
        images = TrainImages(split, PixelTransform(processor), "paint", seed=seed)
        for epoch in range(3):
            images.set_epoch(epoch)
            for index in range(len(images)):
                assert images[index]["pixel_values"].shape == (3, 32, 32)
                left, top, w, h = get_params(*size, np.random.default_rng((seed, epoch, index)))
                expected.append((left, top, left + w, top + h))
    assert boxes == expected
    # no box of nine tenths of a 3:2 image has an allowed ratio
    assert (len(set(boxes)) == 1) == (size == (150, 100))


def test_the_trainer_sees_the_batches_of_a_loop_over_torchvision_crops(model, processor, tmp_path):
    seen = []

    class Recorder(PaintTrainer):
        def features(self, model, inputs):
            seen.append((self.transform.normalize(inputs["pixel_values"]), inputs["labels"]))
            return super().features(model, inputs)

    task = write_task(tmp_path, train=20, size=(150, 100), splits={"validation": None})
    keys = {"num_train_epochs": 2, "max_steps": -1, "warmup_steps": 1, "per_device_train_batch_size": 5, "seed": 3}
    args = PaintTrainingArguments(output_dir=tmp_path / "run", use_cpu=True, augmentation="paint", **keys)
    Recorder(model, args, train_task=task, processing_class=processor).train()
    split = load_splits(task, ("train",))["train"]
    assert [len(labels) for _, labels in seen] == [5] * 8
    mean, std = (np.array(values, dtype=np.float32).reshape(3, 1, 1) for values in (MEAN, STD))
    for epoch in range(2):
        images = [crop(decode(split, index), 32, (3, epoch, index)) for index in range(20)]
        expected = np.stack([(pixels / np.float32(255) - mean) / std for pixels in images])
        pixels, labels = (torch.cat(column).numpy() for column in zip(*seen[4 * epoch : 4 * epoch + 4], strict=True))
        distances = np.abs(pixels[:, None] - expected[None]).max(axis=(2, 3, 4))
        order = distances.argmin(axis=1)
        assert sorted(order) == list(range(20))  # the sampler shuffles
        assert distances.min(axis=1).max() < 1e-6
        assert labels.tolist() == [split.labels()[index] for index in order]
