"""Corruptions: the same bytes for the same image, and each against the same arithmetic written out."""

import hashlib
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import yaml
from PIL import Image, ImageFilter

from drawn_tasks import draw_rows, write_task, write_task_yaml
from hf_paint import InputError, corrupted, evaluate_tasks, get_task
from hf_paint.data.images import CachedImages, decode
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.tasks.corruptions import STRENGTHS, Corruption
from hf_paint.tasks.registry import get_tasks


PROGRAM = """
import hashlib
import numpy as np
from PIL import Image
from hf_paint.tasks.corruptions import Corruption
pixels = np.random.default_rng(5).integers(256, size=(500, 32, 32, 3), dtype=np.uint8)
noise = Corruption(name="noise", severity=3, seed=7)
digests = {i: hashlib.sha256(noise(Image.fromarray(pixels[i])).tobytes()).hexdigest() for i in range(499, -1, -1)}
print(hashlib.sha256("".join(digests[i] for i in range(500)).encode()).hexdigest())
"""


def pictures(count=12, size=32, seed=0):
    """Smooth pictures with edges and some texture, like photos."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    for _ in range(count):
        a, b, c, d = generator.uniform(-6, 6, size=(4, 3))
        waves = 128 + 60 * np.sin(a * x[..., None] + b * y[..., None] + c) + 40 * (np.sin(d * x[..., None] * 4) > 0)
        yield Image.fromarray(np.clip(waves + generator.normal(0, 4, waves.shape), 0, 255).astype(np.uint8))


def array(image):
    return np.asarray(image, dtype=np.float64)


def psnr(image, other):
    return 10 * np.log10(255**2 / np.mean((array(image) - array(other)) ** 2))


def test_the_same_bytes_in_any_order_process_and_thread():
    pixels = np.random.default_rng(5).integers(256, size=(500, 32, 32, 3), dtype=np.uint8)
    images = [Image.fromarray(image) for image in pixels]
    noise = Corruption(name="noise", severity=3, seed=7)
    digests = [hashlib.sha256(noise(image).tobytes()).hexdigest() for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert [hashlib.sha256(image.tobytes()).hexdigest() for image in pool.map(noise, images)] == digests
    assert len(set(digests)) == 500
    other = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_the_seed_decides_the_noise_and_severities_scale_it():
    image = Image.new("RGB", (32, 32), (128, 128, 128))
    one, same, another = (array(Corruption(name="noise", severity=2, seed=seed)(image)) for seed in (1, 1, 2))
    assert (one == same).all()
    assert abs(np.corrcoef(one.ravel(), another.ravel())[0, 1]) < 0.1
    strong = array(Corruption(name="noise", severity=5, seed=1)(image))
    assert np.corrcoef(one.ravel(), strong.ravel())[0, 1] > 0.99
    for severity, std in enumerate((0.04, 0.06, 0.08, 0.09, 0.10), start=1):
        noisy = array(Corruption(name="noise", severity=severity)(image))
        assert noisy.std() == pytest.approx(255 * std, rel=0.05)
        assert noisy.mean() == pytest.approx(128, abs=1.5)


@pytest.mark.parametrize("size", [32, 96, 224])
@pytest.mark.parametrize("name", STRENGTHS)
def test_each_severity_is_further_from_the_image(name, size):
    images = list(pictures(4 if size == 224 else 12, size))
    means = [np.mean([psnr(i, Corruption(name=name, severity=s)(i)) for i in images]) for s in range(1, 6)]
    assert means == sorted(means, reverse=True)
    assert means[0] - means[-1] > 2
    assert means[0] < 45


def test_strengths_at_both_ends_and_between():
    assert [Corruption(name="jpeg", severity=s).strength(28) for s in range(1, 6)] == [80, 65, 58, 50, 40]
    assert [Corruption(name="jpeg", severity=s).strength(224) for s in range(1, 6)] == [25, 18, 15, 10, 7]
    between = Corruption(name="blur", severity=4).strength(int((32 * 224) ** 0.5 + 0.5))
    assert between == pytest.approx((0.8 * 4) ** 0.5, rel=0.01)


def test_against_pillow_and_numpy_by_hand():
    [image] = pictures(1, 224)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=15)
    assert (array(Corruption(name="jpeg", severity=3)(image)) == array(Image.open(file))).all()
    blurred = image.filter(ImageFilter.GaussianBlur(3))
    assert (array(Corruption(name="blur", severity=3)(image)) == array(blurred)).all()
    mean = array(image).mean(axis=(0, 1), keepdims=True)
    expected = np.round(0.2 * array(image) + 0.8 * mean)
    assert np.abs(array(Corruption(name="contrast", severity=3)(image)) - expected).max() <= 1
    coarse = array(Corruption(name="pixelate", severity=5)(image))  # a quarter: blocks of 4 x 4 pixels
    blocks = array(image).reshape(56, 4, 56, 4, 3).mean(axis=(1, 3))
    assert np.abs(coarse - np.repeat(np.repeat(blocks, 4, axis=0), 4, axis=1)).max() <= 1


def test_large_images_are_corrupted_at_224_pixels():
    [image] = pictures(1, 500)
    wide = image.crop((0, 0, 500, 448))
    noisy = Corruption(name="noise", severity=1)(wide)
    assert noisy.size == (250, 224)
    shrunk = wide.resize((250, 224), Image.Resampling.BICUBIC)
    assert (array(noisy) - array(shrunk)).std() == pytest.approx(255 * 0.08, rel=0.05)
    assert Corruption(name="pixelate", severity=5)(Image.new("L", (1, 3))).size == (1, 3)


@pytest.mark.parametrize("streaming", [False, True])
def test_what_a_model_sees_are_the_corrupted_images_resized(tmp_path, processor, streaming):
    task = write_task(tmp_path, streaming=streaming, splits={"validation": None})
    [shift] = corrupted(task, names=["noise"], severities=[4])
    transform = PixelTransform(processor)
    clean, noisy = (load_splits(t, ("test",))["test"] for t in (task, shift))
    pixels, other = (CachedImages(split, transform, cache_dir=tmp_path / "cache") for split in (clean, noisy))
    assert pixels.fingerprint != other.fingerprint
    assert pixels.rows == other.rows
    assert (pixels.labels == other.labels).all()
    originals = draw_rows(40, 1)["image"]
    corruption = Corruption(name="noise", severity=4)
    for index in (0, 17, 39):
        assert (other.pixels[index] == transform.resize_and_crop(corruption(originals[index])).numpy()).all()
    if not streaming:
        assert decode(noisy, 3).tobytes() == corruption(originals[3]).tobytes()


def test_every_part_of_a_corruption_is_part_of_the_fingerprint(tmp_path, processor):
    task, transform = write_task(tmp_path), PixelTransform(processor)
    shifts = [task, *corrupted(task, names=["noise", "jpeg"], severities=[1, 2]), *corrupted(task, seed=3)]
    images = [CachedImages(load_splits(t, ("test",))["test"], transform, cache_dir=tmp_path / "c") for t in shifts]
    assert len({held.fingerprint for held in images}) == len(shifts)


def test_names_and_definitions_round_trip(tmp_path):
    task = get_task({"extends": "cifar10", "corruption": {"name": "noise", "severity": 3}})
    assert (task.name, task.class_names) == ("cifar10-noise-3", get_task("cifar10").class_names)
    assert get_task(task.to_dict()) == task == corrupted("cifar10", names=["noise"], severities=[3])[0]
    seeded = get_task({"extends": "cifar10", "corruption": {"name": "blur", "severity": 1, "seed": 4}})
    assert seeded.name == "cifar10-blur-1-seed-4" == corrupted("cifar10", names=["blur"], seed=4)[0].name
    both = {"extends": "mnist", "class_split": {"part": 0}, "corruption": {"name": "jpeg", "severity": 2}}
    assert get_task(both).name == "mnist-part-0-jpeg-2"
    path = write_task_yaml(tmp_path, "colours")
    assert [t.name for t in corrupted(path, names=["blur"])] == [f"colours-blur-{s}" for s in range(1, 6)]
    assert len(corrupted("cifar10")) == 25


def test_recipes_name_all_of_them_in_one_line():
    line = "{corrupted: cifar10, names: [noise, jpeg], severities: [1, 5]}"
    expected = corrupted("cifar10", names=["noise", "jpeg"], severities=[1, 5])
    assert get_tasks([line]) == get_tasks([yaml.safe_load(line)]) == expected
    assert get_tasks(["mnist", "{corrupted: cifar10}"]) == [get_task("mnist"), *corrupted("cifar10")]


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"corruption": {"name": "nosie", "severity": 3}}, "Unknown corruption 'nosie'. Did you mean 'noise'"),
        ({"corruption": {"name": "noise", "severity": 6}}, "integer from 1 to 5, got 6"),
        ({"corruption": {"name": "noise", "severity": True}}, "integer from 1 to 5, got True"),
        ({"corruption": {"name": "noise"}}, "needs the key 'severity'"),
        ({"corruption": {"name": "noise", "severity": 1, "seed": -1}}, "non-negative integer, got -1"),
        ({"corruption": "noise"}, "must be a mapping"),
    ],
)
def test_wrong_corruptions(definition, message):
    with pytest.raises(InputError, match=message):
        get_task({"extends": "cifar10", **definition})


def test_wrong_short_forms():
    with pytest.raises(InputError, match="Unknown key 'severity' beside `corrupted`. Did you mean 'severities'"):
        get_tasks(["{corrupted: cifar10, severity: 3}"])
    with pytest.raises(InputError, match="`severities` next to `corrupted` must be a non-empty list, got 3"):
        get_tasks(["{corrupted: cifar10, severities: 3}"])
    with pytest.raises(InputError, match=r"`names` next to `corrupted` must be a non-empty list, got \[\]"):
        get_tasks(["{corrupted: cifar10, names: []}"])
    with pytest.raises(InputError, match=r"Unknown corruption \['noise'\]"):
        get_tasks(["{corrupted: cifar10, names: [[noise]]}"])
    with pytest.raises(InputError, match="already corrupted"):
        corrupted(corrupted("cifar10")[0])


def test_evaluation_of_a_corrupted_task_counts_its_images(task, model, processor):
    [shift] = corrupted(task, names=["contrast"], severities=[5])
    [result] = evaluate_tasks(model, [shift], processor=processor)
    assert (result.task, result.total) == ("colours-contrast-5", 40)
