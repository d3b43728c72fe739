"""Examples before and after patching: selection, captions and files."""

import json
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image as PILImage
from transformers import CLIPModel

from drawn_tasks import CLASS_NAMES, write_task
from hf_paint import (
    AlphaCurve,
    InputError,
    PatchOptions,
    Task,
    patch_joint,
    patch_parallel,
    patch_sequential,
    patch_single,
    write_questions_task,
)
from hf_paint.cli.recipe import PatchRecipe
from hf_paint.data.images import decode
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.examples import NUM_EXAMPLES, Example, choose_images, describe_choice, plot_examples
from hf_paint.results.alphas import Coefficients, alpha_from_json
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.scenes import SceneStyle
from patch_runs import arguments


def test_images_on_which_the_models_differ_come_first():
    generator = np.random.default_rng(1)
    before, after = generator.random((2, 400)) < 0.9
    differ = set(np.flatnonzero(before != after))
    assert 50 < len(differ) < 120
    chosen = choose_images(before, after, count=12)
    assert set(chosen) < differ
    assert len(set(chosen)) == 12
    assert np.array_equal(chosen, choose_images(before, after, count=12))
    assert set(chosen) != set(choose_images(before, after, count=12, seed=1))
    most = choose_images(before, after, count=200)
    assert set(most[: len(differ)]) == differ
    assert len(set(most)) == 200
    assert sorted(choose_images(before[:5], after[:5])) == [0, 1, 2, 3, 4]


def test_every_image_that_differs_is_as_likely():
    before = np.arange(20) % 2 == 0
    after = np.where(np.arange(20) < 10, ~before, before)  # the first ten differ
    drawn = [choose_images(before, after, count=3, seed=seed) for seed in range(2000)]
    counts = np.bincount(np.concatenate(drawn), minlength=20)
    assert counts[10:].sum() == 0
    assert np.abs(counts[:10] - 600).max() < 100  # five standard deviations


def test_how_they_were_chosen_is_said_with_the_numbers():
    before, after = np.zeros(100, dtype=bool), np.zeros(100, dtype=bool)
    after[:30], before[40:45] = True, True
    expected = "Drawn at random from 100 test images: 12 of the 35 that changed (30 now right, 5 now wrong)."
    assert describe_choice(before, after, images="test images") == expected
    few = describe_choice(before[28:48], after[28:48], images="test images")
    assert "7 of the 7 that changed (2 now right, 5 now wrong), and 5 of the rest." in few
    none = describe_choice(before[:8], before[:8], images="validation images")
    assert "from 8 validation images: 0 of the 0 that changed (0 now right, 0 now wrong), and 8 of" in none


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    attacked = write_task(folder, attack={"image_size": 32, "font_sizes": [60, 90]})
    style = SceneStyle(image_size=32, radius=(0.09, 0.15))
    asked = write_questions_task(folder, sizes={"train": 12, "validation": 4, "test": 8}, style=style).to_dict()
    return {
        "attacked": attacked,
        "asked": Task.from_dict(asked | {"prompt": "{answer} {question}"}),  # the tiny model reads 32 tokens
        "plain": write_task(folder, "others", seed=7),
        "shift": write_task(folder, "shifted", seed=9),
    }


@pytest.fixture(scope="module")
def run(tasks, model_folder, tmp_path_factory):
    folder, shown = tmp_path_factory.mktemp("run") / "run", {}
    options = PatchOptions(transfer_tasks=[tasks["asked"]], shift_tasks=[tasks["shift"]])

    def plot(examples, path, **texts):
        shown[path.name] = (examples, texts)
        plot_examples(examples, path, **texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_paint.patching.examples.plot_examples", plot)
        supported, args = [tasks["plain"]], arguments(folder)
        patch_single(model_folder, tasks["attacked"], supported, args, alphas=[0.0, 0.6, 1.0], options=options)
    return folder, shown


def test_every_task_with_images_of_its_own_has_a_plot_and_the_card_shows_it(run):
    folder, shown = run
    names = {"examples-colours.png", "examples-others.png", "examples-questions.png"}
    assert {path.name for path in folder.glob("examples-*")} == names == shown.keys()
    card = (folder / "patched" / "README.md").read_text()
    for name in names:
        with PILImage.open(folder / name) as image:
            assert image.size[0] == 840
        assert (folder / "patched" / name).read_bytes() == (folder / name).read_bytes()
        assert f"]({name})" in card
        assert shown[name][1]["caption"] in card
    assert "The images show what changed, not how often." in card
    assert {path.name for path in RunFolder(folder, write=True).plots} > names


def test_captions_count_what_became_right_and_wrong(run):
    folder, shown = run
    selected = alpha_from_json(json.loads((folder / "selection.json").read_text())["alpha"])
    curve = AlphaCurve.from_run(folder)
    for role, name in (("patching", "colours"), ("supported", "others"), ("transfer", "questions")):
        before, after = (
            np.load(folder / curve.get(alpha, role, name, "test").correct_file).astype(int)
            for alpha in (0.0, selected)
        )
        caption = shown[f"examples-{name}.png"][1]["caption"]
        assert f"from {len(before)} test images" in caption
        assert f"({(after > before).sum()} now right, {(after < before).sum()} now wrong)" in caption


def said_by_transformers(folder, processor, image, prompts):
    """Prompt probabilities from plain transformers, one image and one model at a time."""
    model = CLIPModel.from_pretrained(folder).eval()
    inputs = processor(images=image, text=prompts, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        return model(**inputs).logits_per_image.softmax(dim=-1)[0].numpy()


def index_of(example, images):
    """The index of an example's image."""
    [index] = [i for i, image in enumerate(images) if np.array_equal(image, example.pixels)]
    return index


def test_probabilities_are_those_of_both_models(run, tasks, model_folder, processor):
    folder, shown = run
    split = load_splits(tasks["attacked"], ("test",))["test"]
    decoded = [decode(split, index) for index in range(40)]
    pixels = [processor.image_processor(i, do_rescale=False, do_normalize=False)["pixel_values"][0] for i in decoded]
    examples, texts = shown["examples-colours.png"]
    assert len(examples) == 12
    assert texts["title"] == "colours (patching)"
    prompts = [f"a photo of a {name}." for name in CLASS_NAMES]
    words = split.written(split.labels())
    for example in examples[:4]:
        index = index_of(example, [np.asarray(image).transpose(1, 2, 0) for image in pixels])
        assert (example.labels, example.written) == ([split.rows[index]["label"]], words[index])
        assert example.question is None
        assert tuple(example.candidates) == CLASS_NAMES
        for model, said in ((model_folder, example.before), (folder / "patched", example.after)):
            expected = said_by_transformers(model, processor, decoded[index], prompts)
            assert np.abs(said - expected).max() < 1e-5


def test_questions_are_shown_with_their_own_candidates(run, tasks, model_folder, processor):
    folder, shown = run
    rows = Dataset.from_parquet(tasks["asked"].data_files["test"])
    examples, _ = shown["examples-questions.png"]
    assert len({len(example.candidates) for example in examples}) > 1
    for example in examples[:4]:
        [row] = [
            row
            for row in rows
            if row["question"] == example.question
            and tuple(row["choices"]) == example.candidates
            and np.array_equal(np.asarray(row["image"]), example.pixels)
        ]
        assert [example.candidates[label] for label in example.labels] == [row["answer"]]
        assert example.written is None
        prompts = [f"{answer} {example.question}" for answer in row["choices"]]
        for model, said in ((model_folder, example.before), (folder / "patched", example.after)):
            assert np.abs(said - said_by_transformers(model, processor, row["image"], prompts)).max() < 1e-5


def test_number_of_examples(run, tasks, model_folder, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run[0], folder)
    options = PatchOptions(transfer_tasks=[tasks["asked"]], shift_tasks=[tasks["shift"]], num_examples=0)
    patch_single(
        model_folder,
        tasks["attacked"],
        [tasks["plain"]],
        arguments(folder),
        alphas=[0.0, 0.6, 1.0],
        options=options,
    )
    assert not list(folder.glob("**/examples-*"))
    assert "Before and after" not in (folder / "patched" / "README.md").read_text()
    assert PatchRecipe().num_examples == PatchOptions().num_examples == NUM_EXAMPLES
    with pytest.raises(InputError, match="0 or a positive number of images, got -1"):
        patch_single(model_folder, tasks["plain"], [], arguments(tmp_path), options=PatchOptions(num_examples=-1))


@pytest.mark.parametrize("patch", [patch_joint, patch_sequential, patch_parallel])
def test_every_strategy_shows_the_model_that_it_saves(tasks, model_folder, processor, tmp_path, monkeypatch, patch):
    shown = {}
    monkeypatch.setattr(
        "hf_paint.patching.examples.plot_examples",
        lambda examples, path, **texts: shown.update({path.name: examples}),
    )
    several, options = [tasks["attacked"], tasks["shift"]], PatchOptions(num_examples=3)
    if patch is patch_parallel:
        options = PatchOptions(num_examples=3, search_budget=5)
    args = arguments(tmp_path / "run")
    result = patch(model_folder, several, [tasks["plain"]], args, alphas=[0.0, 0.5, 1.0], options=options)
    assert isinstance(result.alpha, Coefficients) == (patch is not patch_joint)
    assert shown.keys() == {"examples-colours.png", "examples-shifted.png", "examples-others.png"}
    images = [decode(split, i) for split in [load_splits(tasks["plain"], ("test",))["test"]] for i in range(40)]
    pixels = [processor.image_processor(i, do_rescale=False, do_normalize=False)["pixel_values"][0] for i in images]
    for example in shown["examples-others.png"]:
        image = images[index_of(example, [np.asarray(pixel).transpose(1, 2, 0) for pixel in pixels])]
        prompts = [f"a photo of a {name}." for name in CLASS_NAMES]
        expected = said_by_transformers(tmp_path / "run" / "patched", processor, image, prompts)
        assert np.abs(example.after - expected).max() < 1e-5
        assert np.abs(example.before - said_by_transformers(model_folder, processor, image, prompts)).max() < 1e-5


def test_any_name_and_question_can_be_plotted(tmp_path):
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    names = ["$x^", "_" * 80, "a very long name of something or other", "ß é 猫"]
    said = np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32)
    texts = {"pixels": pixels, "candidates": names, "before": said, "after": said[::-1]}
    examples = [Example(labels=[i], written=(i + 1) % 4, question="what $ is it? " * 20, **texts) for i in range(4)]
    examples.append(
        Example(
            labels=[0],
            written=None,
            question=None,
            **texts | {"candidates": ["yes", "no"], "before": said[:2], "after": said[2:]},
        )
    )
    path = tmp_path / "plot.png"
    plot_examples(examples, path, title="$ (patching)", patched="patched", caption="Why these. " * 40)
    with PILImage.open(path) as image:
        assert image.format == "PNG"
