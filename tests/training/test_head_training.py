"""Fine-tuning that trains the classification head too (WiSE-FT, Section 3)."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import yaml
from datasets import Dataset, Features, Image, Value
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch.nn import functional

from drawn_tasks import CLASS_NAMES, draw_rows, write_task, write_task_yaml
from hf_paint import (
    ClassificationHead,
    HeadTrainer,
    InputError,
    PaintTrainer,
    PaintTrainingArguments,
    PatchOptions,
    PushOptions,
    build_zero_shot_head,
    evaluate_tasks,
    get_task,
    interpolate,
    interpolate_checkpoints,
    load_classifier,
    patch_joint,
    patch_parallel,
    patch_sequential,
    patch_single,
    prepare_task,
    push_variants,
)
from hf_paint.cli.main import main
from hf_paint.data.splits import load_splits
from hf_paint.models.loading import load_clip
from hf_paint.weights.layers import IMAGE_TOWER
from hf_paint.weights.manifest import MANIFEST
from training_runs import ROUNDING_ONLY, largest_difference, losses


ALPHAS = [0.0, 0.5, 1.0]
NAMES = list(CLASS_NAMES)


def arguments(folder, **keys):
    defaults = {"learning_rate": 1e-3, "max_steps": 6, "warmup_steps": 2, "per_device_train_batch_size": 16}
    defaults |= {"save_steps": 3, "logging_steps": 1, "use_cpu": True, "disable_tqdm": True, "train_head": True}
    return PaintTrainingArguments(output_dir=str(folder), **(defaults | keys))


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The paths of a patching task and a supported task, and shift tasks of the first."""
    folder = tmp_path_factory.mktemp("tasks")
    reference = write_task_yaml(folder, "colours", class_names=NAMES)
    path = str(folder / "shift.parquet")
    features = Features({"image": Image(), "label": Value("int64"), "track": Value("int64")})
    Dataset.from_dict(draw_rows(50, 3, names=CLASS_NAMES[:2]), features=features).to_parquet(path)
    splits = {"train": None, "validation": None, "test": "test"}
    shift = {"extends": reference, "data_files": {"test": path}, "splits": splits}
    return {
        "reference": reference,
        "supported": write_task_yaml(folder, "others", seed=7, class_names=NAMES),
        "subset": shift | {"name": "subset", "class_subset": ["grey", "green"]},
        "groups": shift | {"name": "groups", "class_groups": {"warm": ["red", "grey"], "cold": ["blue"]}},
        "alien": shift | {"name": "alien", "class_names": ["green", "yellow"], "label_names": ["0", "1"]},
    }


@pytest.fixture(scope="module")
def run(model_folder, tasks, tmp_path_factory):
    """A finished end-to-end run."""
    folder = tmp_path_factory.mktemp("run")
    shift_tasks = [get_task(tasks[name]) for name in ("subset", "groups", "alien")]
    options = PatchOptions(shift_tasks=shift_tasks, save_variants=True, compare_ensemble=True)
    args = arguments(folder, learning_rate=3e-3)
    patch_single(
        model_folder, get_task(tasks["reference"]), [tasks["supported"]], args, alphas=ALPHAS, options=options
    )
    return folder


def records(run, name="results.jsonl"):
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def tower_and_head(folder):
    weights = load_file(folder / "model.safetensors")
    return {n: t for n, t in weights.items() if n.startswith(IMAGE_TOWER)}, load_file(folder / "head.safetensors")


def zero_shot_weight(model, processor):
    head = build_zero_shot_head(model, processor.tokenizer, NAMES, ["a photo of a {}."])
    return model.logit_scale.detach().exp() * head.weight


@torch.no_grad()
def embeds_and_labels(model, processor, rows):
    pixels = processor.image_processor(rows["image"], return_tensors="pt")["pixel_values"]
    return model.get_image_features(pixel_values=pixels).pooler_output, torch.tensor(rows["label"])


def adam_step(parameters, gradients, moments, step, rate):
    """AdamW as the papers use it, written out: clipping at norm 1, decay 0.1 of everything."""
    norm = float(torch.sqrt(sum((g**2).sum() for g in gradients.values())))
    for name, parameter in parameters.items():
        gradient = gradients[name] * min(1.0, 1.0 / (norm + 1e-6))
        first, second = moments.get(name, (0.0, 0.0))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        moments[name] = first, second
        mean, scale = first / (1 - 0.9 ** (step + 1)), (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        with torch.no_grad():
            parameter.mul_(1 - rate * 0.1).sub_(rate * mean / scale)


def test_end_to_end_equals_a_plain_torch_loop(model, processor, tmp_path):
    task = write_task(tmp_path, splits={"validation": None}, class_names=NAMES)
    reference, weight = deepcopy(model), zero_shot_weight(model, processor).requires_grad_()
    keys = {"max_steps": 3, "augmentation": "none", "train_sampling_strategy": "sequential"}
    keys |= {"label_smoothing_factor": 0.1, "save_strategy": "no"}
    trainer = PaintTrainer(model, arguments(tmp_path / "run", **keys), train_task=task, processing_class=processor)
    trainer.train()

    rows = load_splits(task, ("train",))["train"].rows
    tower = {n: p for n, p in reference.named_parameters() if n.startswith(IMAGE_TOWER)}
    parameters, moments, expected = tower | {"head": weight}, {}, []
    for step, rate in enumerate([0.5e-3, 1e-3, 1e-3]):
        batch = rows[16 * step : 16 * (step + 1)]
        pixels = processor.image_processor(batch["image"], return_tensors="pt")["pixel_values"]
        embeds = reference.get_image_features(pixel_values=pixels).pooler_output
        log_p = (embeds / embeds.norm(dim=-1, keepdim=True) @ weight.T).log_softmax(-1)
        target = torch.full_like(log_p, 0.1 / 4)
        target[range(16), batch["label"]] += 0.9
        loss = -(target * log_p).sum(-1).mean()
        expected.append(float(loss.detach()))
        gradients = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
        adam_step(parameters, gradients, moments, step, rate)
    assert losses(trainer) == pytest.approx(expected, abs=1e-5)
    assert largest_difference(model, reference, without=ROUNDING_ONLY) < 1e-5
    assert torch.allclose(trainer.model.head.weight, weight, rtol=0, atol=1e-5)
    assert not torch.allclose(weight, zero_shot_weight(model, processor), rtol=0, atol=1e-3)


def test_head_alone_equals_logistic_regression_steps(model, processor, tmp_path):
    torch.manual_seed(0)
    embeds, labels = torch.randn(48, 24), torch.arange(48) % 4
    weight = zero_shot_weight(model, processor)
    head = ClassificationHead(weight.clone(), NAMES)
    args = arguments(tmp_path, max_steps=3, train_sampling_strategy="sequential", save_strategy="no")
    trainer = HeadTrainer(head, args, image_embeds=embeds, labels=labels)
    trainer.train()
    expected, moments = [], {}
    for step, rate in enumerate([0.5e-3, 1e-3, 1e-3]):
        x, y = embeds[16 * step : 16 * (step + 1)], functional.one_hot(labels[16 * step : 16 * (step + 1)])
        x = x / x.norm(dim=-1, keepdim=True)
        p = (x @ weight.T).softmax(-1)
        expected.append(float(-(y * p.log()).sum(-1).mean()))
        adam_step({"w": weight}, {"w": (p - y).T @ x / 16}, moments, step, rate)  # the gradient in closed form
    assert losses(trainer) == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(head.weight, weight, atol=1e-5)


def test_linear_classifier_trains_on_the_embeddings_of_its_train_split(model_folder, processor, tasks, tmp_path):
    """The whole path, against steps on embeddings that transformers computes."""
    keys = {"freeze_tower": True, "max_steps": 3, "train_sampling_strategy": "sequential"}
    task = get_task(tasks["reference"])
    args = arguments(tmp_path, **keys)
    patch_single(model_folder, task, [tasks["supported"]], args, alphas=[0.5, 1.0])
    base = load_clip(model_folder)[0]
    (tower_0, head_0), (tower_1, head_1) = tower_and_head(tmp_path / "theta_0"), tower_and_head(tmp_path / "theta_1")
    assert all(torch.equal(tower_0[name], tower_1[name]) for name in tower_0)
    weight, moments = zero_shot_weight(base, processor), {}
    assert torch.equal(head_0["head.weight"], weight)
    embeds, labels = embeds_and_labels(base, processor, load_splits(task, ("train",))["train"].rows[:48])
    for step, rate in enumerate([0.5e-3, 1e-3, 1e-3]):
        x, y = embeds[16 * step : 16 * (step + 1)], functional.one_hot(labels[16 * step : 16 * (step + 1)], 4)
        x = x / x.norm(dim=-1, keepdim=True)
        adam_step({"w": weight}, {"w": ((x @ weight.T).softmax(-1) - y).T @ x / 16}, moments, step, rate)
    assert torch.allclose(head_1["head.weight"], weight, atol=1e-4)


def test_head_and_tower_are_interpolated_together(run, model_folder, processor, tasks):
    """Each record of the reference and its shifts, against a model and a head written out at alpha."""
    (tower_0, head_0), (tower_1, head_1) = tower_and_head(run / "theta_0"), tower_and_head(run / "theta_1")
    found = {(r["task"], r["alpha"]): r for r in records(run) if r["split"] == "test"}
    for alpha in ALPHAS:
        model = load_clip(model_folder)[0]
        mixed = {n: ((1 - alpha) * t.double() + alpha * tower_1[n].double()).float() for n, t in tower_0.items()}
        model.load_state_dict(mixed, strict=False)
        weight = (1 - alpha) * head_0["head.weight"].double() + alpha * head_1["head.weight"].double()
        for name, members in {
            "reference": [[0], [1], [2], [3]],
            "subset": [[3], [1]],
            "groups": [[0, 3], [2]],
        }.items():
            task = get_task(tasks[name])
            embeds, labels = embeds_and_labels(model, processor, Dataset.from_parquet(task.data_files["test"])[:])
            x = embeds.double()
            logits = x / x.norm(dim=-1, keepdim=True) @ weight.T
            logits = torch.stack([logits[:, rows].amax(-1) for rows in members], dim=1)
            record = found[task.name, alpha]
            assert record["correct"] == int((logits.argmax(-1) == labels).sum())
            assert record["loss"] == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-4)
        saved = load_file(run / "variants" / f"alpha-{alpha:.2f}" / "head.safetensors")["head.weight"]
        assert torch.allclose(saved.double(), weight, atol=1e-5)


def test_the_ensemble_mixes_the_logits_of_both_heads(run, processor, tasks):
    found = {(r["task"], r["alpha"]): r for r in records(run, "ensemble.jsonl") if r["split"] == "test"}
    for name, rows in {"reference": [0, 1, 2, 3], "subset": [3, 1]}.items():
        task, logits = get_task(tasks[name]), []
        for end in ("theta_0", "theta_1"):
            model, (_, head) = load_clip(str(run / end))[0], tower_and_head(run / end)
            embeds, labels = embeds_and_labels(model, processor, Dataset.from_parquet(task.data_files["test"])[:])
            x = embeds.double()
            logits.append(x / x.norm(dim=-1, keepdim=True) @ head["head.weight"].double()[rows].T)
        for alpha in ALPHAS:
            mixed = (1 - alpha) * logits[0] + alpha * logits[1]
            loss = float(functional.cross_entropy(mixed, labels))
            assert found[task.name, alpha]["loss"] == pytest.approx(loss, rel=1e-4)


def test_other_tasks_keep_their_zero_shot_heads(run, processor, tasks):
    model = load_clip(str(run / "theta_1"))[0]
    found = {(r["task"], r["alpha"]): r for r in records(run) if r["split"] == "test"}
    for task in (get_task(tasks["supported"]), get_task(tasks["alien"])):
        [expected] = evaluate_tasks(model, [task], processor=processor)
        assert found[task.name, 1.0]["correct"] == expected.correct
        assert found[task.name, 1.0]["loss"] == pytest.approx(expected.loss, rel=1e-5)
        assert found[task.name, 1.0]["head"] == expected.head


def test_alpha_0_is_zero_shot(run, model_folder, processor, tasks):
    model = load_clip(model_folder)[0]
    found = {(r["task"], r["alpha"]): r for r in records(run) if r["split"] == "test"}
    for name in ("reference", "supported", "subset", "groups", "alien"):
        task = get_task(tasks[name])
        [expected] = evaluate_tasks(model, [task], processor=processor)
        assert found[task.name, 0.0]["correct"] == expected.correct


def test_a_name_of_two_classes_keeps_both_rows(model, processor, tasks):
    """As in ImageNet: each class has its own row once the head is trained."""
    task = prepare_task(get_task(tasks["reference"]), model, processor, splits=("test",))
    two = ["red", "grey", "red", "blue"]
    whole, one = (replace(task, class_names=tuple(names)).with_rows_of(two) for names in (two, ["blue", "red"]))
    assert whole.rows.tolist() == [[0], [1], [2], [3]]
    assert one.rows.tolist() == [[3], [0]]
    groups = replace(task.task, class_names=("warm", "cold"), class_groups={"warm": ("red",), "cold": ("blue",)})
    grouped = replace(task, task=groups, class_names=("warm", "cold")).with_rows_of(two)
    assert [set(rows) for rows in grouped.rows.tolist()] == [{0, 2}, {3}]
    assert replace(task, class_names=("red",) * 3).with_rows_of(two).rows is None
    assert task.with_rows_of(two).rows is None  # which lacks "green"


def test_imagenet_and_its_shifts_find_their_rows(model, processor, tasks):
    """Classes 657 and 744 are both called missile, 836 and 837 both sunglasses."""
    imagenet, here = get_task("imagenet"), prepare_task(get_task(tasks["reference"]), model, processor)
    for name, expected in {"imagenet": range(1000), "imagenet_sketch": range(1000)}.items():
        shift = replace(here, task=get_task(name), class_names=get_task(name).class_names)
        assert shift.with_rows_of(imagenet.class_names).rows.flatten().tolist() == [*expected]
    names = get_task("imagenet_r").class_names
    rows = replace(here, task=get_task("imagenet_r"), class_names=names).with_rows_of(imagenet.class_names).rows
    assert rows.flatten().tolist() == sorted(rows.flatten().tolist())  # the subset is in the order of ImageNet
    assert int(rows[names.index("missile"), 0]) == 657


def test_a_model_without_a_head_is_no_classifier(model_folder):
    with pytest.raises(InputError, match="has no classification head"):
        load_classifier(model_folder)
    with pytest.raises(InputError, match="'no/such-model'"):
        ClassificationHead.load("no/such-model")


@pytest.mark.parametrize("name", ["colours", "others", "subset", "groups", "alien"])
def test_the_head_of_every_task_is_found_by_its_name(run, tasks, model, processor, name):
    """Trained for the patching task and two of its shifts, zero-shot for the others; each gives the recorded count."""
    reference = {"colours": "reference", "others": "supported"}.get(name, name)
    prepared = prepare_task(get_task(tasks[reference]), model, processor, splits=("test",))
    images = prepared.images["test"]
    pixels = prepared.transform.normalize(torch.from_numpy(images.pixels[:].copy()))
    for alpha in (0.0, 1.0):
        classifier = load_classifier(run / "variants" / f"alpha-{alpha:.2f}", name)
        [record] = [r for r in records(run) if (r["task"], r["split"], r["alpha"]) == (name, "test", alpha)]
        assert int((classifier(pixels).argmax(dim=-1) == images.labels).sum()) == record["correct"]
        assert classifier.class_names == prepared.class_names
    with pytest.raises(InputError, match=f"has no task '{name}s': colours, others, subset, groups, alien"):
        load_classifier(run, f"{name}s")


def test_evaluate_says_that_it_leaves_the_head_aside(run, model_folder, tasks, caplog):
    for folder, said in ((str(run / "theta_1"), True), (model_folder, False)):
        caplog.clear()
        main(["evaluate", folder, "--tasks", tasks["reference"], "--use_cpu"])
        assert ("has a trained head, but this command evaluates with zero-shot heads" in caplog.text) == said


def test_folders_are_clip_repositories_and_classifiers(run, processor):
    from transformers import CLIPModel

    selected = json.loads((run / "selection.json").read_text())["alpha"]
    for folder in ("theta_0", "theta_1", "patched", f"variants/alpha-{selected:.2f}"):
        _, report = CLIPModel.from_pretrained(run / folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
    classifier = load_classifier(run / "patched")
    assert (classifier.head.class_names, classifier.head.task) == (CLASS_NAMES, "colours")
    assert classifier.head.templates == ("a photo of a {}.",)
    rows = draw_rows(8, 5)
    embeds, _ = embeds_and_labels(classifier.model, processor, rows)
    weight = load_file(run / "patched" / "head.safetensors")["head.weight"]
    logits = embeds / embeds.norm(dim=-1, keepdim=True) @ weight.T
    pixels = processor.image_processor(rows["image"], return_tensors="pt")["pixel_values"]
    assert torch.allclose(classifier(pixels), logits, atol=1e-4)
    assert classifier.classify(rows["image"]) == [CLASS_NAMES[i] for i in logits.argmax(-1)]
    moved = classifier.to("meta")
    assert {moved.head.weight.device.type, moved.model.device.type} == {"meta"}


def test_folders_are_interpolated_with_their_heads(run, tmp_path):
    outputs = {alpha: tmp_path / str(alpha) for alpha in ALPHAS}
    interpolate_checkpoints(run / "theta_0", run / "theta_1", outputs)
    head_0, head_1 = (ClassificationHead.load(run / name).weight.detach() for name in ("theta_0", "theta_1"))
    for alpha, folder in outputs.items():
        assert torch.equal(load_classifier(folder).head.weight, interpolate({"w": head_0}, {"w": head_1}, alpha)["w"])
        for file in ("model", "head"):
            variant = run / "variants" / f"alpha-{alpha:.2f}"
            expected, found = (load_file(path / f"{file}.safetensors") for path in (variant, folder))
            assert all(torch.equal(found[name], expected[name]) for name in expected)
    interpolate_checkpoints(run / "theta_0", run / "theta_1", {0.5: tmp_path / "half"}, save_dtype="bfloat16")
    assert load_file(tmp_path / "half" / "head.safetensors")["head.weight"].dtype == torch.bfloat16


def test_heads_of_other_classes_are_not_mixed(run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run / "theta_1", other)
    head = json.loads((other / "head.json").read_text())
    head["class_names"][1:] = reversed(head["class_names"][1:])
    (other / "head.json").write_text(json.dumps(head))
    (other / MANIFEST).unlink()
    with pytest.raises(InputError, match="have different classes; the first difference is in row 1"):
        interpolate_checkpoints(run / "theta_0", other, {0.5: tmp_path / "half"})
    assert not (tmp_path / "half").exists()


def test_branches_carry_the_head(run, hub):
    push_variants(run, "tester/wise", options=PushOptions(base_model_id="o/clip"))
    for alpha in ALPHAS:
        classifier = load_classifier("tester/wise", revision=f"alpha-{alpha:.2f}")
        saved = load_classifier(run / "variants" / f"alpha-{alpha:.2f}")
        assert torch.equal(classifier.head.weight, saved.head.weight)
        assert classifier.head.class_names == CLASS_NAMES
        assert all(torch.equal(t, saved.model.state_dict()[n]) for n, t in classifier.model.state_dict().items())
    plan = push_variants(run, "tester/wise", dry_run=True, options=PushOptions(base_model_id="o/clip"))
    assert {branch.action for branch in plan.branches} == {"keep"}
    with pytest.raises(InputError, match="A delta contains no head"):
        push_variants(run, "tester/delta", options=PushOptions(base_model_id="o/clip", form="delta"))


def test_card_and_recipe_say_it(run):
    card = (run / "patched" / "README.md").read_text()
    assert (
        "a classification head, initialised with text embeddings, was trained on colours together with the image tower"
        in card
    )
    assert "load_classifier(" in card
    assert "frozen zero-shot head" not in card
    assert yaml.safe_load((run / "recipe.yaml").read_text())["train_head"] is True


def test_a_finished_run_is_read_again(run, model_folder, tasks, monkeypatch):
    monkeypatch.setattr(PaintTrainer, "train", None)
    before = records(run)
    options = PatchOptions(
        shift_tasks=[get_task(tasks[name]) for name in ("subset", "groups", "alien")], save_variants=True
    )
    args = arguments(run, learning_rate=3e-3)
    result = patch_single(
        model_folder, get_task(tasks["reference"]), [tasks["supported"]], args, alphas=[*ALPHAS, 0.3], options=options
    )
    assert records(run)[: len(before)] == before
    assert 0.3 in result.curve.alphas


ENDS = {"both": {}, "head": {"freeze_tower": True}, "first": {"head_steps": 5, "head_learning_rate": 1e-2}}
ENDS["near the first"] = ENDS["first"] | {"regularization": {"l2_sp": 2.0}}


@pytest.mark.parametrize(
    ("mode", "lost"),
    [
        ("both", ["checkpoint-6"]),
        ("head", ["checkpoint-6"]),
        ("first", ["checkpoint-6"]),
        ("first", ["checkpoint-3", "checkpoint-6", "head/checkpoint-5"]),
        ("near the first", ["checkpoint-6"]),
    ],
)
def test_resumed_equals_uninterrupted(model_folder, tasks, tmp_path, mode, lost):
    """A run whose theta_1 and last checkpoints are deleted trains them again, bit for bit."""
    task, rule = get_task(tasks["reference"]), {"alphas": [1.0], "selection": "none"}
    args = arguments(tmp_path / "run", **ENDS[mode])
    patch_single(model_folder, task, [], args, **rule)
    (tmp_path / "run" / "theta_1").rename(tmp_path / "theta_1")
    for folder in lost:
        shutil.rmtree(tmp_path / "run" / folder)
    (tmp_path / "run" / "results.jsonl").unlink()
    patch_single(model_folder, task, [], args, **rule)
    for weights, others in zip(*(tower_and_head(f / "theta_1") for f in (tmp_path, tmp_path / "run")), strict=True):
        assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_head_first_is_the_two_stages_one_after_the_other(model_folder, processor, tasks, tmp_path):
    task = get_task(tasks["reference"])
    keys = {"head_steps": 5, "head_learning_rate": 1e-2, "max_steps": 3}
    patch_single(model_folder, task, [], arguments(tmp_path / "run", **keys), alphas=[1.0], selection="none")
    alone = {"freeze_tower": True, "max_steps": 5, "learning_rate": 1e-2, "warmup_steps": 0.1}
    patch_single(model_folder, task, [], arguments(tmp_path / "head", **alone), alphas=[1.0], selection="none")
    model = load_clip(model_folder)[0]
    args = arguments(tmp_path / "both", max_steps=3)
    trainer = PaintTrainer(model, args, train_task=task, processing_class=processor)
    trainer.model.head.load_state_dict(ClassificationHead.load(tmp_path / "head" / "theta_1").state_dict())
    trainer.train()
    tower, head = tower_and_head(tmp_path / "run" / "theta_1")
    assert torch.equal(head["head.weight"], trainer.model.head.weight)
    assert all(torch.equal(tower[name], tensor) for name, tensor in model.state_dict().items() if name in tower)


@pytest.mark.parametrize("keys", [{"freeze_tower": True}, {"head_steps": 2}])
def test_head_alone_in_a_training_in_bf16(keys, model_folder, tasks, tmp_path):
    args = arguments(tmp_path, max_steps=3, bf16=True, **keys)
    patch_single(model_folder, get_task(tasks["reference"]), [], args, alphas=[1.0], selection="none")
    assert (tmp_path / "theta_1" / "head.safetensors").exists()


def test_the_best_checkpoint_comes_with_its_head(model, processor, tasks, tmp_path):
    keys = {"eval_strategy": "steps", "eval_steps": 1, "save_steps": 1, "load_best_model_at_end": True}
    keys |= {"metric_for_best_model": "eval_colours_loss", "greater_is_better": True}  # the worst: the first
    task = get_task(tasks["reference"])
    options = {"train_task": task, "eval_tasks": [task, get_task(tasks["supported"])], "processing_class": processor}
    trainer = PaintTrainer(model, arguments(tmp_path, **keys), **options)
    trainer.train()
    assert trainer.state.best_global_step < 6
    saved = load_file(f"{trainer.state.best_model_checkpoint}/head.safetensors")["head.weight"]
    assert torch.equal(saved, trainer.model.head.weight)
    assert trainer.evaluate()["eval_colours_loss"] == pytest.approx(trainer.state.best_metric)
    assert trainer.evaluate([task])["eval_colours_loss"] == pytest.approx(trainer.state.best_metric)


def test_the_head_stays_in_float32_when_the_tower_is_bf16(model_folder, processor, tasks, tmp_path):
    """Otherwise alpha 0 would not be the zero-shot model. Runs the adaptive sweep with a chosen alpha."""
    task, supported = get_task(tasks["reference"]), get_task(tasks["supported"])
    options = PatchOptions(precision="bf16", sweep="adaptive")
    grid = [step / 20 for step in range(21)]
    args = arguments(tmp_path, learning_rate=3e-3)
    result = patch_single(model_folder, task, [supported], args, alphas=grid, options=options)
    assert result.alpha in result.curve.exact_alphas
    [expected] = evaluate_tasks(load_clip(model_folder)[0], [task], processor=processor, precision="bf16")
    found = result.curve.get(0.0, "patching", "colours", "test")
    assert (found.correct, found.precision) == (expected.correct, "bf16")
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)


def test_a_trainer_of_its_own_publishes_the_head(model, processor, tasks, tmp_path, hub):
    keys = {"save_strategy": "no", "hub_model_id": "tester/both", "max_steps": 3}
    task = get_task(tasks["reference"])
    trainer = PaintTrainer(model, arguments(tmp_path, **keys), train_task=task, processing_class=processor)
    trainer.train()
    trainer.push_to_hub()
    classifier = load_classifier("tester/both")
    assert torch.equal(classifier.head.weight, trainer.model.head.weight)
    card = ModelCard.load("tester/both").text
    assert "a classification head, initialised with text embeddings and trained with it" in card
    assert 'load_classifier("tester/both")' in card


def test_a_patching_task_of_groups_is_refused(model_folder, processor, tasks, tmp_path):
    groups = {"warm": ["red", "grey"], "cold": ["blue", "green"]}
    definition = get_task(tasks["reference"]).to_dict() | {"class_groups": groups, "class_names": None}
    features = Features({"image": Image(), "label": Value("int64"), "track": Value("int64")})
    files = {split: str(tmp_path / f"{split}.parquet") for split in ("train", "test")}
    for seed, path in enumerate(files.values()):
        Dataset.from_dict(draw_rows(40, seed, names=["warm", "cold"]), features=features).to_parquet(path)
    task = get_task(definition | {"data_files": files})
    with pytest.raises(InputError, match="supports only one name per class"):
        patch_single(model_folder, task, [], arguments(tmp_path / "run"), selection="none")


def test_without_it_nothing_of_it_is_there(model_folder, tasks, tmp_path):
    patch_single(
        model_folder,
        get_task(tasks["reference"]),
        [tasks["supported"]],
        arguments(tmp_path, train_head=False),
        alphas=[1.0],
    )
    names = {path.name for path in tmp_path.rglob("*")}
    assert not {"head.safetensors", "head.json", "theta_0", "head"} & names
    assert "train_head" not in (tmp_path / "recipe.yaml").read_text()
    assert "trained head" not in (tmp_path / "patched" / "README.md").read_text()


@pytest.mark.parametrize("strategy", [patch_joint, patch_parallel, patch_sequential])
def test_other_strategies_refuse_it(strategy, model_folder, task, other_task, tmp_path):
    with pytest.raises(InputError, match="needs `strategy: single`"):
        strategy(model_folder, [task, other_task], [], arguments(tmp_path))


@pytest.mark.parametrize("options", [{"method": "lines"}, {"thetas": {"a": "b"}}, {"ingredients": [{"seed": [0, 1]}]}])
def test_methods_refuse_it(options, model_folder, task, tmp_path):
    with pytest.raises(InputError, match="`train_head` supports only plain interpolation"):
        patch_single(model_folder, task, [], arguments(tmp_path), options=PatchOptions(**options))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train_head": False, "freeze_tower": True}, "`freeze_tower` requires `train_head: true`"),
        ({"freeze_tower": True, "head_steps": 5}, "Remove `head_steps`"),
        ({"freeze_tower": True, "eval_strategy": "steps"}, "does not support evaluation during training"),
        ({"head_learning_rate": 0.1}, "requires `head_steps`"),
    ],
)
def test_keys_that_do_not_fit_together(keys, message, tmp_path):
    with pytest.raises(InputError, match=message):
        arguments(tmp_path, **keys)


def test_what_the_trainer_refuses(model, processor, tasks, task, other_task, tmp_path):
    with pytest.raises(InputError, match="trains the head and the image tower together"):
        PaintTrainer(model, arguments(tmp_path, freeze_tower=True), train_task=task, processing_class=processor)
    with pytest.raises(InputError, match="requires exactly one `train_task`"):
        PaintTrainer(model, arguments(tmp_path), train_task=[task, other_task], processing_class=processor)
    with pytest.raises(InputError, match=r"must have shape \(3, 24\)"):
        head = ClassificationHead(torch.zeros(2, 24), ["a", "b"])
        HeadTrainer(head, arguments(tmp_path), image_embeds=torch.zeros(3, 23), labels=torch.zeros(3))
