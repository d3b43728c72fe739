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
    select_alpha,
    write_questions_task,
)
from hf_paint.cli.recipe import PatchRecipe
from hf_paint.data.images import decode
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.examples import Example, plot_examples
from hf_paint.patching import examples as patching_examples
from hf_paint.results.alphas import Coefficients, alpha_from_json
from hf_paint.results.changed_images import NUM_EXAMPLES, Changes
from hf_paint.results.details_log import RunDetails
from hf_paint.results.pictures import read_pictures
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.scenes import SceneStyle
from patch_runs import arguments


pytestmark = pytest.mark.usefixtures("_data_stay_the_same")


def test_images_that_change_come_first_and_both_ways_take_turns():
    generator = np.random.default_rng(1)
    before, after, fine_tuned = generator.random((3, 400)) < [[0.9], [0.95], [0.8]]
    changes = Changes(before=before, after=after, fine_tuned=fine_tuned)
    lost, won = (set(np.flatnonzero(way)) for way in (before & ~after, after & ~before))
    by_training = set(np.flatnonzero((before == after) & (before != fine_tuned)))
    assert min(len(lost), len(won), len(by_training)) > 10
    chosen = changes.choose(count=12)
    assert (len(lost & set(chosen)), len(won & set(chosen)), len(set(chosen))) == (6, 6, 12)
    assert np.array_equal(chosen, changes.choose(count=12))
    assert set(chosen) != set(changes.choose(count=12, seed=1))
    every = changes.choose(count=400).tolist()
    assert sorted(every) == list(range(400))
    first, second = len(lost | won), len(lost | won | by_training)
    assert (set(every[:first]), set(every[first:second])) == (lost | won, by_training)
    without = Changes(before=before, after=after)
    assert without.choose(count=12).tolist() == chosen.tolist()
    assert sorted(Changes(before=before[:5], after=after[:5]).choose()) == [0, 1, 2, 3, 4]


def test_every_image_that_changes_in_the_same_way_is_as_likely():
    before = np.arange(20) % 2 == 0
    after = np.where(np.arange(20) < 10, ~before, before)  # the first ten change, five of them to wrong
    changes = Changes(before=before, after=after)
    drawn = [changes.choose(count=4, seed=seed) for seed in range(2000)]
    counts = np.bincount(np.concatenate(drawn), minlength=20)
    assert counts[10:].sum() == 0
    assert np.abs(counts[:10] - 800).max() < 110  # five standard deviations
    others = [Changes(before=before, after=before).choose(count=4, seed=seed) for seed in range(2000)]
    assert np.abs(np.bincount(np.concatenate(others), minlength=20) - 400).max() < 90


def test_how_they_were_chosen_is_said_with_the_numbers():
    def described(right, wrong, by_training, others, count=12):
        sizes = (right, wrong, by_training, others)
        before, after, fine_tuned = (np.repeat(flags, sizes) for flags in ([0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]))
        changes = Changes(before=before > 0, after=after > 0, fine_tuned=fine_tuned > 0)
        return changes.describe(changes.choose(count=count), images="some images")

    start = "Drawn at random from some images: "
    many = "12 of the 35 that changed (7 of 30 now right, 5 of 5 now wrong)."
    assert described(30, 5, 0, 65) == start + many
    few = "3 of the 3 that changed (2 of 2 now right, 1 of 1 now wrong)"
    assert described(2, 1, 9, 8) == f"{start}{few}, and 9 of the 9 that only fine-tuning changes."
    assert described(2, 1, 4, 8) == f"{start}{few}, 4 of the 4 that only fine-tuning changes, and 5 others."
    none = "0 of the 0 that changed (0 of 0 now right, 0 of 0 now wrong), and 1 other."
    assert described(0, 0, 0, 8, count=1) == start + none


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
        assert f" of {(after > before).sum()} now right, " in caption
        assert f" of {(after < before).sum()} now wrong)" in caption


def said_by_transformers(folder, processor, image, prompts):
    """Prompt probabilities from plain transformers, one image and one model at a time."""
    model = CLIPModel.from_pretrained(folder).eval()
    inputs = processor(images=image, text=prompts, return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        return model(**inputs).logits_per_image.softmax(dim=-1)[0].numpy()


def assert_best(answers, probabilities):
    """Answers are the best three of all probabilities, best first."""
    expected = sorted(probabilities.tolist(), reverse=True)[:3]
    assert [probability for _, probability in answers] == pytest.approx(expected, abs=2e-5)
    assert [probabilities[candidate] for candidate, _ in answers] == pytest.approx(expected, abs=2e-5)


def seen_by(processor, image):
    """The image as the model sees it, (height, width, 3)."""
    pixels = processor.image_processor(image, do_rescale=False, do_normalize=False)["pixel_values"][0]
    return np.asarray(pixels).transpose(1, 2, 0)


def assert_same_picture(found, expected):
    """Pictures have the same brightness everywhere, but for the losses of JPEG."""
    assert found.shape == expected.shape
    found, expected = (np.asarray(PILImage.fromarray(image).convert("L"), dtype=float) for image in (found, expected))
    assert np.abs(found - expected).mean() < 8


def test_answers_are_those_of_both_models(run, tasks, model_folder, processor):
    folder, shown = run
    split = load_splits(tasks["attacked"], ("test",))["test"]
    examples, texts = shown["examples-colours.png"]
    pictures = read_pictures(folder)["colours"]["pictures"]
    assert len(examples) == len(pictures) == 12
    assert texts["title"] == "colours (patching)"
    prompts = [f"a photo of a {name}." for name in CLASS_NAMES]
    words = split.written(split.labels())
    for example, picture in list(zip(examples, pictures, strict=True))[:4]:
        index = picture["index"]
        assert (example.labels, example.written) == ([split.rows[index]["label"]], words[index])
        assert (example.question, picture["candidates"]) == (None, None)
        assert tuple(example.candidates) == CLASS_NAMES
        image = decode(split, index)
        assert_same_picture(example.pixels, seen_by(processor, image))
        for model, said in ((model_folder, example.before), (folder / "patched", example.after)):
            assert_best(said, said_by_transformers(model, processor, image, prompts))


def test_questions_are_shown_with_their_own_candidates(run, tasks, model_folder, processor):
    folder, shown = run
    rows = Dataset.from_parquet(tasks["asked"].data_files["test"])
    examples, _ = shown["examples-questions.png"]
    assert len({len(example.candidates) for example in examples}) > 1
    for example, picture in list(zip(examples, read_pictures(folder)["questions"]["pictures"], strict=True))[:4]:
        row = rows[picture["index"]]
        assert (example.question, example.candidates) == (row["question"], row["choices"])
        assert_same_picture(example.pixels, np.asarray(row["image"]))
        assert [example.candidates[label] for label in example.labels] == [row["answer"]]
        assert example.written is None
        prompts = [f"{answer} {example.question}" for answer in row["choices"]]
        for model, said in ((model_folder, example.before), (folder / "patched", example.after)):
            assert_best(said, said_by_transformers(model, processor, row["image"], prompts))


def test_pictures_are_small_files_that_say_what_they_show(run):
    folder, _ = run
    saved = json.loads((folder / "examples/examples.json").read_text())
    assert saved == read_pictures(folder)
    assert list(saved) == ["colours", "others", "questions"]
    files = {picture["file"] for task in saved.values() for picture in task["pictures"]}
    assert {str(path.relative_to(folder / "examples")) for path in folder.glob("examples/*/*")} == files
    for name, task in saved.items():
        assert task["split"] == "test"
        assert task["alpha"] == json.loads((folder / "selection.json").read_text())["alpha"]
        for picture in task["pictures"]:
            assert picture["file"] == f"{name}/{picture['index']}.jpg"
            with PILImage.open(folder / "examples" / picture["file"]) as image:
                assert (image.format, image.size) == ("JPEG", (32, 32))


def test_tasks_share_the_pictures_of_a_run(run, tasks, model_folder, tmp_path, monkeypatch):
    """No model runs for them: the answers are on record."""
    monkeypatch.setattr(Evaluator, "_gather", None)
    monkeypatch.setattr(patching_examples, "MAX_PICTURES", 10)
    monkeypatch.setattr(patching_examples, "MAX_SIZE", 20)
    folder = shutil.copytree(run[0], tmp_path / "run")
    options = PatchOptions(transfer_tasks=[tasks["asked"]], shift_tasks=[tasks["shift"]])
    patch_single(
        model_folder, tasks["attacked"], [tasks["plain"]], arguments(folder), alphas=[0.0, 0.6, 1.0], options=options
    )
    before, after = read_pictures(run[0]), read_pictures(folder)
    for name, task in after.items():
        assert task["pictures"] == before[name]["pictures"][:3]
        with PILImage.open(folder / "examples" / task["pictures"][0]["file"]) as image:
            assert image.size == (20, 20)


def test_another_alpha_is_shown_with_the_same_pictures(run, tmp_path, monkeypatch):
    folder, shown = shutil.copytree(run[0], tmp_path / "run"), {}

    def plot(examples, path, **texts):
        shown[path.name] = (examples, texts)
        path.touch()

    monkeypatch.setattr(patching_examples, "plot_examples", plot)
    first = alpha_from_json(json.loads((folder / "selection.json").read_text())["alpha"])
    second = 1.0 if first != 1.0 else 0.6
    select_alpha(folder, alpha=second)
    assert shown.keys() == run[1].keys()
    curve, details = AlphaCurve.from_run(folder), RunDetails.of_run(folder)
    answers = details.of(curve.get(second, "patching", "colours", "test")).answers
    examples, texts = shown["examples-colours.png"]
    assert [example.after for example in examples] == [
        answers.of(picture["index"]) for picture in read_pictures(folder)["colours"]["pictures"]
    ]
    assert texts["caption"] == f"Chosen for alpha {first:.2f}: {run[1]['examples-colours.png'][1]['caption']}"
    assert texts["caption"] in (folder / "patched/README.md").read_text()
    select_alpha(folder, alpha=first)
    for name, (examples, texts) in run[1].items():
        assert texts == shown[name][1]
        assert [example.after for example in examples] == [example.after for example in shown[name][0]]


def test_a_run_of_an_earlier_version_keeps_its_plots_for_its_alpha(run, tmp_path):
    folder = shutil.copytree(run[0], tmp_path / "run")
    (folder / "details.jsonl").unlink()
    shutil.rmtree(folder / "examples")
    plots = {path.name: path.read_bytes() for path in folder.glob("examples-*.png")}
    chosen = json.loads((folder / "selection.json").read_text())["alpha"]
    select_alpha(folder, alpha=chosen)
    assert {path.name: path.read_bytes() for path in folder.glob("examples-*.png")} == plots
    assert all(name in (folder / "patched/README.md").read_text() for name in plots)
    select_alpha(folder, alpha=1.0 if chosen != 1.0 else 0.6)
    assert not list(folder.glob("examples-*.png"))
    assert "Before and after" not in (folder / "patched/README.md").read_text()


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
    assert not list(folder.glob("**/examples*"))
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
    split = load_splits(tasks["plain"], ("test",))["test"]
    pictures = read_pictures(tmp_path / "run")["others"]["pictures"]
    for example, picture in zip(shown["examples-others.png"], pictures, strict=True):
        image = decode(split, picture["index"])
        assert_same_picture(example.pixels, seen_by(processor, image))
        prompts = [f"a photo of a {name}." for name in CLASS_NAMES]
        assert_best(example.after, said_by_transformers(tmp_path / "run" / "patched", processor, image, prompts))
        assert_best(example.before, said_by_transformers(model_folder, processor, image, prompts))


def test_any_name_and_question_can_be_plotted(tmp_path):
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    names = ["$x^", "_" * 80, "a very long name of something or other", "ß é 猫"]
    said = [(0, 0.4), (1, 0.3), (2, 0.2)]
    texts = {"pixels": pixels, "candidates": names, "before": said, "after": [(3, 0.4), *said[:2]]}
    examples = [Example(labels=[i], written=(i + 1) % 4, question="what $ is it? " * 20, **texts) for i in range(4)]
    examples.append(
        Example(
            labels=[0],
            written=None,
            question=None,
            **texts | {"candidates": ["yes", "no"], "before": said[:2], "after": said[:1]},
        )
    )
    path = tmp_path / "plot.png"
    plot_examples(examples, path, title="$ (patching)", patched="patched", caption="Why these. " * 40)
    with PILImage.open(path) as image:
        assert image.format == "PNG"
