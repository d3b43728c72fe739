"""Everything that a demo opens answers like transformers' own pipeline on the model saved at that alpha."""

import shutil

import pytest
import torch
from PIL import Image
from transformers import pipeline

from drawn_tasks import write_task
from hf_paint import (
    PushOptions,
    apply_patch,
    interpolate_checkpoints,
    load_classifier,
    patch_single,
    push_variants,
)
from hf_paint.adapters.lora import interpolate_adapter
from hf_paint.errors import InputError
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.patching.options import PatchOptions
from hf_paint.report.opening import open_subject
from patch_runs import arguments, parallel, sequential


WORDS = ["red square", "<b>blue</b>", "green"]
TEMPLATE = "a picture of a {}"
SHORT = {"max_steps": 2, "warmup_steps": 1}


@pytest.fixture(scope="module")
def picture():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 60, 3), generator=generator, dtype=torch.uint8)
    return Image.fromarray(pixels.numpy())


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return [write_task(folder, name, seed=seed) for seed, name in enumerate(("first", "second", "third"))]


def by_pipeline(folder, picture, words=WORDS, template=TEMPLATE):
    model, processor, _ = load_clip(str(folder))
    parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
    answers = pipeline("zero-shot-image-classification", model=model, **parts)(
        picture, candidate_labels=words, hypothesis_template=template
    )
    scores = {answer["label"]: answer["score"] for answer in answers}
    return torch.tensor([scores[word] for word in words])


def check(subject, picture, folder, *values):
    """Check the answers at these positions of the sliders against those of the model in a folder."""
    found = subject.live.probabilities(picture, WORDS, TEMPLATE, subject.alpha(values))
    torch.testing.assert_close(found, by_pipeline(folder, picture), atol=1e-5, rtol=0)


def test_a_run_and_the_model_in_it(finished_run, model_folder, picture, tmp_path):
    interpolate_checkpoints(model_folder, finished_run / "theta_1", {0.37: tmp_path / "between"})
    for name in (finished_run, finished_run / "patched"):
        subject = open_subject(name)
        [knob] = subject.knobs
        assert (knob.low, knob.high, subject.run.path) == (0.0, 1.0, finished_run)
        check(subject, picture, tmp_path / "between", 0.37)
        check(subject, picture, model_folder, 0.0)
        check(subject, picture, finished_run / "theta_1", 1.0)
        check(subject, picture, finished_run / "patched", knob.start)
    assert [task.name for task in subject.tasks] == ["colours", "others"]


def test_a_sequential_run_has_its_steps(model_folder, tasks, picture, tmp_path):
    run = sequential(model_folder, tasks, tmp_path / "run", alphas=[0.5, 1.0]).run_folder
    subject = open_subject(run)
    [knob] = subject.knobs
    assert (knob.low, knob.high, knob.start) == (0.0, 2.0, 2.0)
    check(subject, picture, model_folder, 0.0)
    check(subject, picture, run / "step-1" / "patched", 1.0)
    check(subject, picture, run / "patched", 2.0)
    interpolate_checkpoints(run / "step-1" / "patched", run / "step-2" / "patched", {0.3: tmp_path / "between"})
    check(subject, picture, tmp_path / "between", 1.3)


def test_a_parallel_run_has_a_slider_for_each_task(model_folder, tasks, picture, tmp_path):
    run = parallel(model_folder, tasks, tmp_path / "run").run_folder
    subject = open_subject(run)
    assert [knob.task for knob in subject.knobs] == ["first", "second"]
    check(subject, picture, run / "patched", *(knob.start for knob in subject.knobs))
    check(subject, picture, run / "thetas" / "second" / "theta_1", 0.0, 1.0)
    check(subject, picture, model_folder, 0.0, 0.0)


def test_a_trained_head_answers_for_its_own_classes(model_folder, tasks, picture, tmp_path):
    options = PatchOptions(extrapolate=True)
    args = arguments(tmp_path / "run", train_head=True, **SHORT)
    run = patch_single(model_folder, tasks[0], [tasks[1]], args, alphas=[0, 0.5, 1.5], options=options).run_folder
    subject = open_subject(run)
    [knob] = subject.knobs
    assert knob.high == 1.5
    own = subject.tasks[0]
    classifier = load_classifier(run / "patched", "first")
    pixels = classifier.processor.image_processor(picture, return_tensors="pt")["pixel_values"]
    found = subject.live.probabilities(picture, own.class_names, own.templates, knob.start)
    torch.testing.assert_close(found, classifier(pixels)[0].softmax(dim=-1), atol=1e-5, rtol=0)
    check(subject, picture, run / "patched", knob.start)  # the user's words have no trained head


def test_patches_and_adapters(model_folder, patch_folder, adapter_folder, picture, tmp_path):
    subject = open_subject(patch_folder, model_folder)
    assert [knob.start for knob in subject.knobs] == [0.5]
    model, processor, _ = load_clip(model_folder)
    save_clip(apply_patch(model, patch_folder, 0.3), processor, tmp_path / "patched")
    check(subject, picture, tmp_path / "patched", 0.3)
    with pytest.raises(InputError, match="--base"):
        open_subject(patch_folder)
    interpolate_adapter(model_folder, adapter_folder, {0.3: tmp_path / "adapted"})
    check(open_subject(adapter_folder, model_folder), picture, tmp_path / "adapted", 0.3)


def test_a_published_model_has_its_ends_in_branches(finished_run, model_folder, picture, hub, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    push_variants(run, "tester/clip", options=PushOptions(base_model_id="o/clip"))
    subject = open_subject("tester/clip")  # the base itself is not on this Hub
    [knob] = subject.knobs
    assert (knob.low, knob.high) == (0.0, 1.0)
    check(subject, picture, finished_run / "patched", knob.start)
    check(subject, picture, finished_run / "theta_1", 1.0)
    check(subject, picture, model_folder, 0.0)
    assert open_subject("tester/clip@alpha-0.50").knobs[0].start == 0.5
    assert [task.name for task in subject.tasks] == ["colours", "others"]


def test_models_without_a_run(finished_run, model_folder, picture, tmp_path):
    alone = open_subject(model_folder)
    assert not alone.knobs
    check(alone, picture, model_folder)
    shutil.copytree(finished_run / "patched", tmp_path / "patched")
    subject = open_subject(tmp_path / "patched", model_folder)
    [knob] = subject.knobs
    check(subject, picture, tmp_path / "patched", knob.high)
    check(subject, picture, model_folder, 0.0)
    with pytest.raises(InputError, match="fingerprint"):
        open_subject(tmp_path / "patched", finished_run / "theta_1")


def test_runs_that_cannot_be_opened(finished_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    shutil.move(run / "theta_1", run / "elsewhere")
    with pytest.raises(InputError, match="theta_1"):
        open_subject(run)
    (run / "card.json").unlink()
    with pytest.raises(InputError, match="not finished"):
        open_subject(run)
    recipe = (run / "recipe.yaml").read_text()
    shutil.move(run / "elsewhere", run / "theta_1")
    shutil.copy(finished_run / "card.json", run)
    (run / "recipe.yaml").write_text(recipe.replace("model: /", "model: /gone/"))
    with pytest.raises(InputError, match="/gone/.* is missing"):
        open_subject(run)
