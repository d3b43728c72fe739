import itertools

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers import CLIPImageProcessorPil, CLIPProcessor

from drawn_tasks import draw_rows, write_task
from hf_paint import InputError
from hf_paint.data.images import CachedImages
from hf_paint.data.splits import load_splits
from hf_paint.data.training_images import StreamedTrainImages, TrainImages, shuffled
from hf_paint.data.transforms import PixelTransform


SIZES = [(32, 32), (40, 36), (36, 40), (333, 127), (75, 500), (20, 28)]


def processor_with(tokenizer, size):
    crop = {"height": size, "width": size}
    return CLIPProcessor(CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size=crop), tokenizer)


@pytest.mark.parametrize("size", [32, 33, 64])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_pixels_equal_those_of_the_processor(processor, size, mode):
    crop = {"height": size, "width": size}
    exact = CLIPImageProcessorPil(size={"height": size, "width": size + 3}, crop_size=crop)
    for one in (processor_with(processor.tokenizer, size), CLIPProcessor(exact, processor.tokenizer)):
        check_pixels(one, mode)


def check_pixels(processor, mode):
    transform = PixelTransform(processor)
    for image_size in SIZES:
        image = draw_rows(1, 3, size=image_size)["image"][0].convert(mode)
        expected = processor.image_processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        pixels = transform.resize_and_crop(image)
        assert np.array_equal(pixels.numpy(), expected["pixel_values"][0])
        normalized = processor.image_processor(image, return_tensors="pt")["pixel_values"]
        assert torch.equal(transform.normalize(pixels[None]), normalized)


@pytest.mark.parametrize("image_size", [(20, 400), (400, 20), (1, 20), (19, 380), (333, 500)])
def test_images_up_to_the_aspect_ratio_of_a_strip_equal_those_of_the_processor(processor, image_size):
    image = draw_rows(1, 3, size=image_size)["image"][0]
    expected = processor.image_processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
    assert np.array_equal(PixelTransform(processor).resize_and_crop(image), expected["pixel_values"][0])


@pytest.mark.parametrize(
    "image_size", [(20, 401), (401, 20), (1, 1000), (1000, 1), (7, 3001), (31, 1219), (500, 20_000)]
)
@pytest.mark.parametrize("edge", [32, 224])
def test_a_strip_has_the_pixels_of_the_whole_strip_resized(processor, image_size, edge):
    generator, (width, height) = np.random.default_rng(0), image_size
    # without black and white, where Pillow cuts off what bicubic weights overshoot after each of its two passes
    image = Image.fromarray(generator.integers(90, 160, size=(height, width, 3), dtype=np.uint8))
    size = (int(edge * width / height), edge) if width > height else (edge, int(edge * height / width))
    left, top = (size[0] - edge) // 2, (size[1] - edge) // 2
    whole = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + edge, top + edge))
    pixels = PixelTransform(processor_with(processor.tokenizer, edge)).resize_and_crop(image)
    assert np.abs(pixels.numpy().astype(int) - np.asarray(whole, dtype=int).transpose(2, 0, 1)).max() <= 1


def test_crops_stay_within_scale_and_ratio(processor, monkeypatch):
    boxes = []
    crop = Image.Image.crop
    monkeypatch.setattr(Image.Image, "crop", lambda self, box: boxes.append(box) or crop(self, box))
    image = draw_rows(1, 0, size=(400, 300))["image"][0]
    for seed in range(300):
        pixels = PixelTransform(processor).random_resized_crop(image, np.random.default_rng(seed))
        assert pixels.shape == (3, 32, 32)
    areas = np.array([(right - left) * (lower - upper) for left, upper, right, lower in boxes]) / (400 * 300)
    ratios = np.array([(right - left) / (lower - upper) for left, upper, right, lower in boxes])
    assert 0.895 < areas.min() < 0.91
    assert 0.98 < areas.max() <= 1.0
    assert 0.75 <= ratios.min() < ratios.max() <= 4 / 3 + 0.01
    assert min(box[0] for box in boxes) >= 0
    assert max(box[2] for box in boxes) <= 400


def test_augmentation_depends_on_seed_epoch_and_index_alone(task, processor):
    split, transform = load_splits(task, ("train",))["train"], PixelTransform(processor)

    def images(seed=0, epoch=0):
        dataset = TrainImages(split, transform, "paint", seed=seed)
        dataset.set_epoch(epoch)
        return dataset

    first = images()[5]["pixel_values"]
    np.random.default_rng().random()
    torch.rand(3)
    assert torch.equal(images()[5]["pixel_values"], first)
    assert not torch.equal(images(epoch=1)[5]["pixel_values"], first)
    assert not torch.equal(images(seed=1)[5]["pixel_values"], first)


def test_workers_that_outlive_an_epoch_see_it_change(task, processor):
    dataset = TrainImages(load_splits(task, ("train",))["train"], PixelTransform(processor), "paint", seed=0)
    loader = torch.utils.data.DataLoader(dataset, batch_size=8, num_workers=2, persistent_workers=True)
    for epoch in range(3):
        dataset.set_epoch(epoch)
        seen = torch.cat([batch["pixel_values"] for batch in loader])
        assert torch.equal(seen, torch.stack([dataset[i]["pixel_values"] for i in range(len(dataset))]))


def test_cached_pixels_equal_decoded_ones_and_are_decoded_once(task, processor, tmp_path, monkeypatch):
    split, transform = load_splits(task, ("test",))["test"], PixelTransform(processor)
    cached = CachedImages(split, transform, cache_dir=tmp_path)
    expected = torch.stack([transform.resize_and_crop(image) for image in split.rows["image"]])
    assert torch.equal(cached.__getitems__(list(range(len(cached))))["pixel_values"], expected)
    assert torch.equal(cached[3]["pixel_values"], expected[3])
    monkeypatch.setattr(PixelTransform, "resize_and_crop", None)
    again = CachedImages(split, transform, cache_dir=tmp_path)
    assert torch.equal(again[3]["pixel_values"], expected[3])


def test_another_processor_has_another_cache(task, processor, tmp_path):
    split = load_splits(task, ("test",))["test"]
    small = CachedImages(split, PixelTransform(processor), cache_dir=tmp_path)
    large = CachedImages(split, PixelTransform(processor_with(processor.tokenizer, 64)), cache_dir=tmp_path)
    assert small.fingerprint != large.fingerprint
    assert large[0]["pixel_values"].shape == (3, 64, 64)


def stream_of(task, **keys):
    from hf_paint import Task

    return Task.from_dict(task.to_dict() | {"streaming": True} | keys)


def test_a_stream_is_decoded_into_the_same_cache(tmp_path, processor):
    task = write_task(tmp_path, splits={"validation": None})
    transform = PixelTransform(processor)
    cached = CachedImages(load_splits(task, ("test",))["test"], transform, cache_dir=tmp_path)
    streamed = CachedImages(load_splits(stream_of(task), ("test",))["test"], transform, cache_dir=tmp_path)
    assert np.array_equal(streamed.pixels, cached.pixels)
    assert torch.equal(streamed.labels, cached.labels)
    assert streamed.fingerprint != cached.fingerprint


def test_training_stream_passes_over_every_row_in_ever_new_order(tmp_path, processor):
    task = stream_of(write_task(tmp_path, splits={"validation": None}))
    split = load_splits(task, ("train",))["train"]
    images = StreamedTrainImages(split, PixelTransform(processor), "none", seed=0, buffer_size=16)
    examples = list(itertools.islice(images, 160))
    passes = [[e["pixel_values"].numpy().tobytes() for e in examples[i : i + 80]] for i in (0, 80)]
    assert sorted(passes[0]) == sorted(passes[1])
    assert passes[0] != passes[1]
    again = [e["pixel_values"].numpy().tobytes() for e in itertools.islice(images, 80)]
    assert again == passes[0]


def test_shuffled_yields_each_row_once():
    rows = list(shuffled(iter(range(100)), 7, np.random.default_rng(0)))
    assert sorted(rows) == list(range(100))
    assert rows != list(range(100))
    assert list(shuffled(iter(range(9)), 1, np.random.default_rng(0))) == list(range(9))


def test_empty_streams_are_refused(tmp_path, processor):
    task = stream_of(write_task(tmp_path, test=0, splits={"train": "test", "validation": None, "test": None}))
    split = load_splits(task, ("train",))["train"]
    with pytest.raises(InputError, match="train stream of task 'colours' is empty"):
        next(iter(StreamedTrainImages(split, PixelTransform(processor), "none", seed=0)))
    with pytest.raises(InputError, match="train split of task 'colours' contains no images"):
        CachedImages(split, PixelTransform(processor), cache_dir=tmp_path / "cache")


def test_pixels_that_other_code_has_cached_are_not_used(task, processor, tmp_path, monkeypatch):
    split = load_splits(task, ("test",))["test"]
    before = CachedImages(split, PixelTransform(processor), cache_dir=tmp_path)
    assert CachedImages(split, PixelTransform(processor), cache_dir=tmp_path).fingerprint == before.fingerprint
    monkeypatch.setattr("hf_paint.data.transforms.to_rgb", lambda image: ImageOps.invert(image.convert("RGB")))
    after = CachedImages(split, PixelTransform(processor), cache_dir=tmp_path)
    assert after.fingerprint != before.fingerprint
    assert not np.array_equal(after.pixels, before.pixels)


def test_class_names_are_part_of_the_cache_key(task, processor, tmp_path):
    names = ["grey", "blue", "green", "red"]
    permuted = write_task_with(task, class_names=names)
    first, second = (
        CachedImages(load_splits(t, ("test",))["test"], PixelTransform(processor), cache_dir=tmp_path)
        for t in (task, permuted)
    )
    assert first.fingerprint != second.fingerprint
    assert torch.equal(first.labels, 3 - second.labels)


def test_corrupt_image_is_named(tmp_path, processor):
    from datasets import Dataset, Features, Image as ImageFeature, Value

    task = write_task(tmp_path, splits={"validation": None})
    rows = Dataset.from_parquet(task.data_files["test"]).cast_column("image", ImageFeature(decode=False)).to_list()
    rows[7]["image"] = {"bytes": rows[7]["image"]["bytes"][:60], "path": "sign_7.png"}
    features = Features({"image": ImageFeature(), "label": Value("int64"), "track": Value("int64")})
    Dataset.from_list(rows, features=features).to_parquet(task.data_files["test"])
    task = write_task_with(task, class_names=["red", "green", "blue", "grey"])
    with pytest.raises(InputError, match="Image 7 of the test split of task 'colours' cannot be read .'sign_7.png'"):
        CachedImages(load_splits(task, ("test",))["test"], PixelTransform(processor), cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.npy"))


def write_task_with(task, **keys):
    from hf_paint import Task

    return Task.from_dict(task.to_dict() | keys)


def test_a_processor_that_does_something_else_is_refused(processor):
    crop = {"height": 32, "width": 32}
    others = [
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop, do_resize=False),
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop, do_rescale=False),
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=crop, do_center_crop=False),
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 24}),
        CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size=crop),
    ]
    for other in others:
        with pytest.raises(InputError, match="must, like CLIP's, rescale"):
            PixelTransform(CLIPProcessor(other, processor.tokenizer))


def test_settings_of_old_checkpoints(processor, tmp_path):
    """OpenAI's repositories store less than today's processors: sizes as integers, no rescaling, no conversion."""
    import json

    processor.save_pretrained(tmp_path)
    (tmp_path / "processor_config.json").unlink()
    old = {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "resample": 3,
        "size": 224,
    }
    old |= {"feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(old))
    transform = PixelTransform(CLIPProcessor.from_pretrained(tmp_path))
    assert (transform.size, transform.crop_size, transform.scale) == ({"shortest_edge": 224}, 224, 1 / 255)


def test_model_inputs_are_the_processors_bit_for_bit(processor):
    """Every level of every channel, through the whole processor."""
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([levels, levels[::-1], levels.T], axis=-1)).resize((32, 32), 0)
    expected = processor.image_processor(image, return_tensors="pt")["pixel_values"]
    transform = PixelTransform(processor)
    assert len(expected[0, 0].unique()) == 256
    assert torch.equal(transform.normalize(transform.resize_and_crop(image)[None]), expected)
