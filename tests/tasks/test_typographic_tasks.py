"""Typographic attacks on tasks: definition, images, training and records."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import yaml
from accelerate import Accelerator
from PIL import Image

from browser import check_page
from drawn_tasks import CLASS_NAMES, write_task, write_task_yaml
from hf_paint import AlphaCurve, InputError, PaintTrainer, PaintTrainingArguments, get_task
from hf_paint.cli.main import main
from hf_paint.cli.run_recipe import run_recipe
from hf_paint.data.images import CachedImages, data_fingerprint, decode
from hf_paint.data.joint_images import JointImages
from hf_paint.data.splits import load_splits
from hf_paint.data.training_images import TrainImages
from hf_paint.data.transforms import PixelTransform
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import Predictions, score
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.models.towers import image_tower
from hf_paint.results.curve_metadata import curve_from_metadata, curve_to_metadata
from hf_paint.tasks.corruptions import Corruption
from hf_paint.tasks.lettering import draw_lettering
from hf_paint.tasks.typographic import TypographicAttack
from report_checks import checked_report


FONT = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSerif.ttf"
GREY = (127, 127, 127)  # none of the colours


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seed": -1}, "`seed` of `attack`"),
        ({"seed": True}, "`seed` of `attack`"),
        ({"probability": 1.5}, "from 0 to 1"),
        ({"probability": "often"}, "from 0 to 1"),
        ({"image_size": 8}, "at least 32"),
        ({"fonts": "font.ttf"}, "a list of paths"),
        ({"font_sizes": [40, 20]}, r"must be \[MIN, MAX\], for instance \[20, 40\]; got \[40, 20\]"),
        ({"font_sizes": [0, 20]}, r"must be \[MIN, MAX\]"),
        ({"font_sizes": 30}, r"must be \[MIN, MAX\]"),
        ({"font_sizes": ["a", "b"]}, r"must be \[MIN, MAX\]"),
        ({"fonts": ["none.ttf"]}, "none.ttf cannot be read"),
        ({"font": FONT}, "Unknown key 'font'.*Did you mean 'fonts'"),
    ],
)
def test_bad_attacks_are_named(keys, message):
    with pytest.raises(InputError, match=message):
        get_task({"extends": "cifar10", "attack": keys})


def test_names_too_long_for_any_letters_are_named():
    with pytest.raises(InputError, match="too long to be written over a 32-pixel image"):
        draw_lettering("x" * 200, 32, [FONT], np.random.default_rng(0))


def test_attacked_tasks_are_named_after_the_task_and_keep_their_definition():
    task = get_task("{extends: cifar10, attack: {}}")
    assert (task.name, task.attack) == ("cifar10-attack", TypographicAttack())
    assert get_task({"extends": "cifar10", "attack": {"seed": 3}}).name == "cifar10-attack-seed-3"
    both = get_task({"extends": "mnist", "class_split": {"part": 1}, "attack": {"seed": 2}})
    assert both.name == "mnist-part-1-attack-seed-2"
    given = get_task({"extends": "cifar10", "name": "mine", "attack": {"fonts": [FONT], "probability": 0.5}})
    assert get_task(given.to_dict()) == given
    assert yaml.safe_load(yaml.safe_dump(given.to_dict()))["attack"]["fonts"] == [FONT]
    large = get_task({"extends": "cifar10", "attack": {"font_sizes": [60, 90]}})
    assert get_task(json.loads(json.dumps(large.to_dict()))) == large
    assert large.to_dict()["attack"]["font_sizes"] == [60, 90]
    with pytest.raises(InputError, match="`attack` is not a key of a typographic task"):
        get_task({"extends": "scam", "name": "twice", "attack": {}})


def test_fonts_are_relative_to_the_file(tmp_path):
    shutil.copy(FONT, tmp_path / "own.ttf")
    (tmp_path / "task.yaml").write_text("{extends: cifar10, attack: {fonts: [own.ttf]}}")
    attack = get_task(tmp_path / "task.yaml").attack
    assert attack.font_files == (str(tmp_path / "own.ttf"),)
    assert attack.identity == replace(attack, fonts=(FONT,)).identity  # the file's content matters


SCRIPT = """
import hashlib
from PIL import Image
from hf_paint.tasks.typographic import TypographicAttack
attack, image = TypographicAttack(seed=1), Image.new("RGB", (300, 200), "grey")
images = [attack(image, row % 3, ["dog", "polar bear", "cat"], split="train", row=row, epoch=2) for row in range(20)]
print(hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest())
"""


def test_images_are_the_same_in_every_process_and_differ_by_seed_split_and_row(capsys):
    exec(SCRIPT, {})
    mine = capsys.readouterr().out
    assert subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout == mine
    image, attack = Image.new("RGB", (224, 224), GREY), TypographicAttack()
    images = {
        attack(image, 0, CLASS_NAMES, split=name, row=row).tobytes()
        for name in ("validation", "test")
        for row in (0, 1)
    }
    images.add(TypographicAttack(seed=1)(image, 0, CLASS_NAMES, split="test", row=0).tobytes())
    assert len(images) == 5


def test_fingerprints_tell_attacks_apart(tmp_path, processor):
    transform = PixelTransform(processor)
    plain = write_task(tmp_path)
    variants = [{}, {"attack": {}}, {"attack": {"seed": 1}}, {"attack": {"fonts": [FONT]}}]
    variants.append({"attack": {"font_sizes": [30, 40]}})
    variants.append({"attack": {}, "class_names": ["grey", "blue", "green", "red"], "label_names": list(CLASS_NAMES)})
    found = [
        data_fingerprint(load_splits(get_task(plain.to_dict() | keys), ("test",))["test"], transform)
        for keys in variants
    ]
    assert len(set(found)) == len(variants)


def test_font_sizes_are_those_that_are_drawn():
    sizes = [
        draw_lettering("cat", side, [FONT], np.random.default_rng(seed), font_sizes=(60, 90)).size
        for side in (224, 448)
        for seed in range(200)
    ]
    assert (min(sizes[:200]), max(sizes[:200])) == (60, 89)  # rounded down
    assert (min(sizes[200:]), max(sizes[200:])) == (120, 179)
    image = TypographicAttack(font_sizes=[60, 60])(
        Image.new("RGB", (224, 224), GREY), 0, ["dog", "cat"], split="test", row=1
    )
    changed = np.flatnonzero((np.asarray(image) != GREY).any(axis=(1, 2)))
    assert 40 < np.ptp(changed) < 62  # a word of small letters and one tall one


def test_the_trainer_reports_attack_success(tmp_path, model, processor):
    attacked, plain = (
        write_task(tmp_path, attack={"image_size": 32, "font_sizes": [60, 90]}),
        write_task(tmp_path, "b"),
    )
    args = PaintTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, max_steps=2, warmup_steps=1)
    options = {"train_task": attacked, "eval_tasks": [attacked, plain], "processing_class": processor}
    metrics = PaintTrainer(model, args, **options).evaluate()
    split = load_splits(attacked, ("validation",))["validation"]
    images, labels = [decode(split, index) for index in range(len(split.rows))], split.rows["label"]
    inputs = processor(
        images=images, text=[f"a photo of a {n}." for n in CLASS_NAMES], return_tensors="pt", padding=True
    )
    predicted = model.eval()(**inputs).logits_per_image.argmax(dim=-1).numpy()
    words = attacked.attack.written(np.array(labels), CLASS_NAMES, "validation")
    assert metrics["eval_colours_attack_success"] == np.mean((predicted == words) & (words != labels))
    assert metrics["eval_colours_accuracy"] == np.mean(predicted == labels)
    assert "eval_b_attack_success" not in metrics


def test_a_corruption_comes_after_the_attack(tmp_path, processor):
    task = write_task(tmp_path, attack={"seed": 1})
    both = get_task({"extends": "mnist", "attack": {}, "corruption": {"name": "noise", "severity": 3, "seed": 2}})
    assert both.name == "mnist-attack-noise-3-seed-2"
    corruption = Corruption(name="pixelate", severity=5)
    attacked, split = (load_splits(one, ("test",))["test"] for one in (task, replace(task, corruption=corruption)))
    assert decode(split, 3).tobytes() == corruption(decode(attacked, 3)).tobytes() != decode(attacked, 3).tobytes()
    transform = PixelTransform(processor)
    assert data_fingerprint(split, transform) != data_fingerprint(attacked, transform)


def test_training_images_are_attacked_anew_in_every_epoch(tmp_path, processor):
    task = write_task(tmp_path, attack={"probability": 0.5})
    clean = load_splits(replace(task, attack=None), ("train",))["train"]
    split, transform = load_splits(task, ("train",))["train"], PixelTransform(processor)
    images = TrainImages(split, transform, "paint", seed=0)
    images.set_epoch(1)
    assert images[3]["pixel_values"].equal(images.example(3, 1)["pixel_values"])
    joint = JointImages([images], [4])
    assert joint[3]["pixel_values"].equal(images.example(3, 0)["pixel_values"])
    epochs = [np.asarray(decode(split, 3, epoch)) for epoch in range(40)]
    unattacked = np.asarray(
        replace(task.attack, probability=0)(decode(clean, 3), 0, CLASS_NAMES, split="train", row=3)
    )
    attacked = [not np.array_equal(image, unattacked) for image in epochs]
    assert 10 < sum(attacked) < 30
    assert len({image.tobytes() for image in epochs}) == sum(attacked) + 1


def test_the_cache_holds_the_attacked_images_and_the_words(tmp_path, processor):
    task = write_task(tmp_path, attack={})
    transform = PixelTransform(processor)
    for name, split in load_splits(task, ("validation", "test")).items():
        cached = CachedImages(split, transform, cache_dir=tmp_path / "cache")
        assert (cached.written != cached.labels.numpy()).all()
        image, label = split.rows[2]["image"], split.rows[2]["label"]
        attacked = task.attack(image, label, CLASS_NAMES, split=name, row=2)
        assert cached[2]["pixel_values"].equal(transform.resize_and_crop(attacked))
        again = CachedImages(split, transform, cache_dir=tmp_path / "cache")
        assert np.array_equal(again.written, cached.written)


def test_a_stream_is_attacked_like_its_rows(tmp_path, processor):
    task = write_task(tmp_path, attack={})
    transform = PixelTransform(processor)
    rows, stream = (
        CachedImages(load_splits(t, ("test",))["test"], transform, cache_dir=tmp_path / "cache")
        for t in (task, replace(task, streaming=True))
    )
    assert np.array_equal(rows.pixels, stream.pixels)
    assert np.array_equal(rows.written, stream.written)


def test_halves_write_their_own_classes_alone(tmp_path):
    task = write_task(tmp_path, attack={}, class_split={"part": 0})
    split = load_splits(task, ("test",))["test"]
    assert set(split.written(split.labels())) == {0, 1}
    assert len(split.class_names) == 2


def test_attack_success_is_counted_as_by_a_loop(task, model, processor):
    prepared = prepare_task(task, model, processor, splits=("test",))
    generator = np.random.default_rng(0)
    labels, predicted, written = generator.integers(4, size=(3, 500))
    arrays = np.zeros(500, dtype=np.float32)
    expected = 0
    for label, guess, word in zip(labels, predicted, written, strict=True):
        if guess == word and word != label:
            expected += 1
    assert (
        score(Predictions(labels, predicted, arrays, arrays, written), prepared, "test").attack_success
        == expected
        > 50
    )
    assert score(Predictions(labels, predicted, arrays, arrays), prepared, "test").attack_success is None


def test_predictions_of_some_images_come_with_their_words(tmp_path, model, processor):
    prepared = prepare_task(write_task(tmp_path, attack={}), model, processor, splits=("test",), cache_dir=tmp_path)
    evaluator = Evaluator(Accelerator(cpu=True), batch_size=16)
    whole = evaluator.predict(image_tower(model), prepared, "test")
    some = evaluator.predict(image_tower(model), prepared, "test", indices=np.array([7, 2, 39]))
    assert np.array_equal(some.written, whole.written[[7, 2, 39]])
    assert np.array_equal(some.attacked, whole.attacked[[7, 2, 39]])


def chosen(card):
    """The alpha reported in a card."""
    return yaml.safe_load(card.split("---")[1])["hf_paint"]["alpha"]


@pytest.mark.parametrize("sweep", ["full", "adaptive"])
def test_patching_an_attacked_task_end_to_end(tmp_path, model_folder, sweep):
    path = write_task_yaml(tmp_path / "data")
    task = get_task({"extends": path, "attack": {"probability": 0.5}})
    args = PaintTrainingArguments(
        output_dir=str(tmp_path / "run"),
        use_cpu=True,
        disable_tqdm=True,
        max_steps=2,
        warmup_steps=1,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
    )
    recipe = {"model": model_folder, "patching_tasks": [task.to_dict()], "sweep": sweep}
    recipe |= {"supported_tasks": [get_task(path).to_dict()], "alphas": [step / 12 for step in range(13)]}
    recipe |= {"output_dir": args.output_dir, "use_cpu": True, "disable_tqdm": True, "max_steps": 2, "warmup_steps": 1}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"learning_rate": 1e-3}))
    run_recipe(str(tmp_path / "recipe.yaml"), [])
    assert main(["select", str(tmp_path / "run"), "--alpha", "1"]) == 0  # whatever two steps gain
    records = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    for record in records:
        assert (record["attack_success"] is not None) == (record["task"] == "colours-attack")
    curve = AlphaCurve.from_run(tmp_path / "run")
    result = curve.get(1.0, "patching", "colours-attack", "test")
    assert 0 <= result.attack_success <= result.total - result.correct
    table = curve.to_markdown()
    assert "| colours-attack attack success (patching) |" in table.splitlines()[0]
    assert table.splitlines()[-1].endswith(f" {100 * result.attack_success / result.total:.2f} |")
    card = (tmp_path / "run" / "patched" / "README.md").read_text()
    assert "colours-attack attack success" in card
    assert "An attack succeeds if" in card
    rates = [100 * curve.get(a, "patching", "colours-attack", "test").attack_success / 40 for a in (0.0, chosen(card))]
    assert f", attack success {rates[0]:.1f} % → {rates[1]:.1f} %)" in card
    read = curve_from_metadata(curve_to_metadata(curve))
    assert {(r.alpha, r.task, r.split): r.attack_success for r in read.results} == {
        (r.alpha, r.task, r.split): r.attack_success for r in curve.results
    }
    (run,) = checked_report(tmp_path / "run")["runs"]
    check_page(tmp_path / "run", run)
    attacked = run["tasks"][0]
    assert attacked["metrics"]["attack_success"][-1] == result.attack_success / result.total
    assert all(picture["written"] in CLASS_NAMES or picture["written"] is None for picture in attacked["pictures"])
