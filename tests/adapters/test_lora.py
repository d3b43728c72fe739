"""Train a LoRA adapter of the image tower and patch with it; compare with peft and with formulas."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import CLIPModel, set_seed

from drawn_tasks import write_task
from hf_paint import (
    InputError,
    PaintTrainer,
    PaintTrainingArguments,
    evaluate_tasks,
    patch_joint,
    patch_parallel,
    patch_sequential,
    patch_single,
    scale_adapter,
)
from hf_paint.adapters.lora import LORA_TARGETS, add_lora, image_tower_pattern
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.models.loading import load_clip
from hf_paint.models.towers import image_tower
from hf_paint.patching.options import PatchOptions
from hf_paint.results.curve import AlphaCurve
from hf_paint.weights.layers import IMAGE_TOWER
from patch_runs import arguments, weights
from peft_adapters import config_of, loaded
from tensors import distance


ALPHAS = [0.0, 0.25, 0.5, 0.75]
LORA = {"use_peft": True, "lora_r": 4, "learning_rate": 1e-2}


pytestmark = pytest.mark.usefixtures("_data_stay_the_same")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    second = write_task(folder, "second", seed=3, names=("blue", "grey", "red", "green"))
    return write_task(folder, "first"), second, write_task(folder, "kept", seed=7)


@pytest.fixture(scope="module")
def run(model_folder, tasks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lora") / "run"
    options = PatchOptions(base_model_id="me/clip")
    args = arguments(folder, **LORA)
    return patch_single(model_folder, tasks[0], [tasks[2]], args, alphas=ALPHAS, options=options)


def test_theta_1_is_the_base_with_the_adapter_and_the_text_tower_is_the_base_s(run, model_folder):
    folder, base = run.run_folder, weights(model_folder)
    expected = {name: tensor.double() for name, tensor in base.items()}
    factors = load_file(folder / "adapter" / "adapter_model.safetensors")
    adapted = {name.removeprefix("base_model.model.").partition(".lora_")[0] for name in factors}
    attention, mlp = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"), ("mlp.fc1",)
    layers = (*attention, *mlp, "mlp.fc2")
    assert adapted == {f"vision_model.encoder.layers.{i}.{layer}" for i in range(2) for layer in layers}
    for module in adapted:
        a, b = (factors[f"base_model.model.{module}.lora_{letter}.weight"].double() for letter in "AB")
        assert a.shape[0] == 4
        expected[f"{module}.weight"] += 32 / 4 * b @ a
    theta_1 = weights(folder / "theta_1")
    assert distance(theta_1, expected) < 1e-6
    assert distance(theta_1, base) > 1e-3
    frozen = [name for name in base if name.removesuffix(".weight") not in adapted]
    assert all(torch.equal(theta_1[name], base[name]) for name in frozen)


def test_the_run_keeps_adapters_that_plain_peft_loads(run, model_folder):
    folder, base = run.run_folder, CLIPModel.from_pretrained(model_folder)
    assert distance(loaded(base, folder / "adapter"), weights(folder / "theta_1")) < 1e-6
    assert distance(loaded(base, folder / "patched_adapter"), weights(folder / "patched")) < 1e-6
    whole, chosen = config_of(folder / "adapter"), config_of(folder / "patched_adapter")
    assert run.alpha in ALPHAS[1:]
    assert chosen["lora_alpha"] == run.alpha * whole["lora_alpha"] == run.alpha * 32
    assert (whole["base_model_name_or_path"], whole["revision"]) == ("me/clip", None)
    assert chosen["base_model_name_or_path"] == "me/clip"
    card = (folder / "patched" / "README.md").read_text()
    assert "A LoRA adapter of rank 4 was trained" in card
    assert "use_peft: true" in card
    for adapter in ("adapter", "patched_adapter"):
        assert not [p for p in (folder / adapter).iterdir() if model_folder.encode() in p.read_bytes()]


def test_a_sweep_of_adapters_has_the_accuracies_of_the_merged_sweep(run, model_folder, tasks, tmp_path):
    base, processor, _ = load_clip(model_folder)
    swept = AlphaCurve.from_run(run.run_folder).results
    corrects = set()
    for alpha in ALPHAS:
        scale_adapter(run.run_folder / "adapter", alpha, tmp_path / f"{alpha}")
        model = deepcopy(base)
        adapted = PeftModel.from_pretrained(model, str(tmp_path / f"{alpha}")).eval()
        pixels = torch.randn(2, 3, 32, 32)
        features = adapted.get_image_features(pixel_values=pixels).pooler_output  # peft without merging
        merged = adapted.merge_and_unload()
        assert (merged.get_image_features(pixel_values=pixels).pooler_output - features).abs().max() < 1e-5
        for split in ("validation", "test"):
            for result in evaluate_tasks(merged, [tasks[0], tasks[2]], processor=processor, split=split):
                [record] = [r for r in swept if (r.alpha, r.task, r.split) == (alpha, result.task, split)]
                assert (record.correct, record.total) == (result.correct, result.total)
                corrects.add((result.task, split, result.correct))
    assert len(corrects) > 4


def test_the_same_again_changes_nothing_and_a_finished_training_is_not_repeated(
    run, model_folder, tasks, monkeypatch, tmp_path
):
    copy = tmp_path / "again" / run.run_folder.name  # the report names it
    shutil.copytree(run.run_folder, copy)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != "recipe.yaml"}
    monkeypatch.setattr(PaintTrainer, "train", None)
    monkeypatch.setattr(Evaluator, "predict", None)
    options = PatchOptions(base_model_id="me/clip")
    patch_single(model_folder, tasks[0], [tasks[2]], arguments(copy, **LORA), alphas=ALPHAS, options=options)
    after = {path for path in copy.rglob("*") if path.is_file() and path.name != "recipe.yaml"}
    assert {path: path.read_bytes() for path in after} == before


def test_interrupted_training_equals_uninterrupted(run, model_folder, tasks, tmp_path, monkeypatch):
    save = PaintTrainer._save_checkpoint

    def killed(self, *args):
        save(self, *args)
        raise KeyboardInterrupt

    def patch():
        options = PatchOptions(base_model_id="me/clip")
        return patch_single(
            model_folder, tasks[0], [tasks[2]], arguments(tmp_path, **LORA), alphas=ALPHAS, options=options
        )

    with monkeypatch.context() as patched:
        patched.setattr(PaintTrainer, "_save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            patch()
    checkpoint = {path.name for path in (tmp_path / "checkpoint-4").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "optimizer.pt"} <= checkpoint
    assert not {"model.safetensors", "README.md"} & checkpoint
    assert patch().alpha == run.alpha
    for name in ("results.jsonl", "adapter/adapter_model.safetensors", "theta_1/model.safetensors"):
        assert (tmp_path / name).read_bytes() == (run.run_folder / name).read_bytes()


def test_the_best_checkpoint_is_loaded(model, processor, tasks, tmp_path):
    keys = {"eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "load_best_model_at_end": True}
    args = arguments(tmp_path, metric_for_best_model="mean_accuracy", greater_is_better=True, **keys, **LORA)
    trainer = PaintTrainer(model, args, train_task=tasks[0], eval_tasks=tasks[:1], processing_class=processor)
    trainer.train()
    best = load_file(Path(trainer.state.best_model_checkpoint) / "adapter_model.safetensors")
    trainer.save_model(str(tmp_path / "saved"))
    saved = load_file(tmp_path / "saved" / "adapter_model.safetensors")
    assert saved.keys() == best.keys()
    assert all(torch.equal(saved[name], best[name]) for name in best)


def test_what_is_published_in_training_is_the_merged_model(model, processor, tasks, tmp_path):
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer = PaintTrainer(model, arguments(tmp_path, **LORA), train_task=tasks[0], processing_class=processor)
    trainer.train()
    trainer.save_repository(tmp_path / "published")
    trainer.save_model(str(tmp_path / "adapter"))
    trainer.model.merge_and_unload()
    published = CLIPModel.from_pretrained(tmp_path / "published").state_dict()
    clean = deepcopy(model)
    clean.load_state_dict(base)
    assert distance(published, loaded(clean, tmp_path / "adapter")) < 1e-6
    assert distance(published, model.state_dict()) == 0


def test_layers_by_name_and_by_pattern(model, processor, tasks, tmp_path):
    modules = ["layers.1.*_proj", "visual_projection"]
    args = arguments(tmp_path, use_rslora=True, lora_target_modules=modules, lora_dropout=0.1, **LORA)
    trainer = PaintTrainer(model, args, train_task=tasks[0], processing_class=processor)
    adapted = {name.partition(".lora_A")[0] for name, _ in trainer.model.named_parameters() if ".lora_A" in name}
    attention = {f"vision_model.encoder.layers.1.self_attn.{letter}_proj" for letter in ("q", "k", "v", "out")}
    assert {name.removeprefix("base_model.model.") for name in adapted} == attention | {"visual_projection"}
    before = {n: p.clone() for n, p in model.named_parameters() if not n.startswith(IMAGE_TOWER)}
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    trainer.model.merge_and_unload()
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters() if n in before)
    clean = CLIPModel(model.config)
    clean.load_state_dict(model.state_dict())
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    found = PeftModel.from_pretrained(clean, str(tmp_path / "adapter"))  # of both towers, and touches one
    assert {name for name, _ in found.named_parameters() if ".lora_" in name} == {
        name.replace(".weight", ".default.weight") for name in names
    }


@pytest.mark.parametrize("patch", [patch_joint, patch_sequential, patch_parallel])
def test_adapters_of_several_tasks_add_up_to_the_patched_model(patch, model_folder, tasks, tmp_path):
    options = PatchOptions(base_model_id="me/clip", **({"search_budget": 6} if patch is patch_parallel else {}))
    keys = {"alphas": [0.5, 1.0], "tolerance": 0.99}  # whatever the supported task loses
    result = patch(model_folder, tasks[:2], [tasks[2]], arguments(tmp_path / "run", **LORA), options=options, **keys)
    base, folder = CLIPModel.from_pretrained(model_folder), tmp_path / "run" / "patched_adapter"
    patched = weights(result.run_folder / "patched")
    assert distance(patched, weights(model_folder)) > 1e-3
    assert distance(loaded(base, folder), patched) < 1e-6
    assert config_of(folder)["base_model_name_or_path"] == "me/clip"
    assert config_of(folder)["r"] == (4 if patch is patch_joint else 8)
    if patch is patch_sequential:  # the second step does not start from the base
        named = [config_of(tmp_path / f"run/step-{i}/adapter")["base_model_name_or_path"] for i in (1, 2)]
        assert named == ["me/clip", None]


def test_dora_is_interpolated_as_merged_weights(model_folder, tasks, tmp_path, caplog):
    args = arguments(tmp_path / "run", use_dora=True, **LORA)
    patch_single(model_folder, tasks[0], [tasks[2]], args, alphas=[0.5, 1.0])
    assert "the adapter config will not name it" in caplog.text
    theta_1 = weights(tmp_path / "run" / "theta_1")
    assert distance(loaded(CLIPModel.from_pretrained(model_folder), tmp_path / "run" / "adapter"), theta_1) < 1e-6
    assert (tmp_path / "run" / "patched").exists()
    assert not (tmp_path / "run" / "patched_adapter").exists()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"lora_r": 8}, "`lora_r` requires `use_peft: true`"),
        ({"use_dora": True}, "`use_dora` requires `use_peft: true`"),
        ({"use_peft": True, "lora_r": 0}, "lora_r must be at least 1, got 0"),
        (
            {
                "use_peft": True,
                "gradient_checkpointing": True,
                "gradient_checkpointing_kwargs": {"use_reentrant": True},
            },
            "With `use_reentrant: true`, adapters get no gradients",
        ),
        ({"use_peft": True, "train_head": True}, "`use_peft` trains only an adapter for the image tower"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(keys, message, tmp_path):
    with pytest.raises(InputError, match=message):
        arguments(tmp_path, **keys)


@pytest.mark.parametrize(
    "options",
    [{"method": "ema"}, {"method": "uniform_soup", "ingredients": [{"seed": [0, 1]}]}, {"thetas": {"a": "somewhere"}}],
)
def test_one_fine_tuning_is_interpolated(options, model_folder, tasks, tmp_path):
    with pytest.raises(InputError, match="`use_peft` supports only plain interpolation"):
        args = arguments(tmp_path / "run", **LORA)
        patch_single(model_folder, tasks[0], [tasks[2]], args, options=PatchOptions(**options))
    assert not (tmp_path / "run").exists()


def test_factors_depend_on_the_seed_alone(model):
    args = PaintTrainingArguments("unused", use_peft=True, seed=5)
    random_state = torch.get_rng_state()
    first, second = (get_peft_model_state_dict(add_lora(image_tower(deepcopy(model)), args)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert first
    assert all(torch.equal(first[name], second[name]) for name in first)
    set_seed(5)
    config = LoraConfig(r=args.lora_r, target_modules=image_tower_pattern(LORA_TARGETS))
    expected = get_peft_model_state_dict(get_peft_model(image_tower(deepcopy(model)), config))
    assert all(torch.equal(first[name], factor) for name, factor in expected.items())


def test_layers_that_are_not_there_are_refused(model_folder, tasks, tmp_path):
    args = arguments(tmp_path / "run", lora_target_modules=["query"], **LORA)
    there = "fc1, fc2, k_proj, out_proj, patch_embedding, q_proj, v_proj, visual_projection"
    with pytest.raises(
        InputError, match=f"layers query of the image tower, but this tower has none of them.*: {there}"
    ):
        patch_single(model_folder, tasks[0], [tasks[2]], args)
    args = arguments(tmp_path / "run", lora_target_modules=["*_proj"], **LORA)
    with pytest.raises(InputError, match="`lora_target_modules`: .* is not a valid regular expression"):
        patch_single(model_folder, tasks[0], [tasks[2]], args)


def test_training_that_starts_over_begins_with_the_base_and_a_new_adapter(model_folder, tasks, tmp_path, monkeypatch):
    step, found = PaintTrainer.training_step, {}

    def out_of_memory(self, model, inputs, *args, **keys):
        loss = step(self, model, inputs, *args, **keys)
        if len(inputs["labels"]) == 16 and self.state.global_step == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return loss

    monkeypatch.setattr(PaintTrainer, "training_step", out_of_memory)
    for size in (16, 14):  # the second is what accelerate makes of the first
        model, processor, _ = load_clip(model_folder)
        keys = {"per_device_train_batch_size": size, "auto_find_batch_size": True, "lora_dropout": 0.1, "max_steps": 4}
        args = arguments(tmp_path / f"{size}", **LORA | keys)
        trainer = PaintTrainer(model, args, train_task=tasks[0], processing_class=processor)
        trainer.train()
        trainer.model.merge_and_unload()
        found[size] = model.state_dict()
        assert trainer.state.train_batch_size == 14
    assert distance(found[16], found[14]) == 0
    assert distance(found[16], weights(model_folder)) > 1e-3


def test_without_peft_nothing_is_trained(model_folder, tasks, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(InputError, match=r"pip install 'hf-paint\[peft\]'"):
        patch_single(model_folder, tasks[0], [tasks[2]], arguments(tmp_path / "run", **LORA))
    assert not (tmp_path / "run").exists()


def test_a_recipe_and_the_resolved_one_again(recipe, tmp_path):
    from hf_paint.cli.main import main

    keys = {"use_peft": True, "lora_r": 2, "lora_alpha": 4, "lora_target_modules": ["q_proj", "v_proj"]}
    assert recipe(**keys) == 0
    resolved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert {key: resolved[key] for key in keys} == keys
    again = tmp_path / "again"
    assert main(["patch", "--config", str(tmp_path / "run" / "recipe.yaml"), "--output_dir", str(again)]) == 0
    for name in ("results.jsonl", "adapter/adapter_model.safetensors", "patched_adapter/adapter_config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (again / name).read_bytes()
    assert json.loads((again / "selection.json").read_text())["alpha"] in (0.0, 0.5, 1.0)


def test_gradient_checkpointing_and_bf16_train_the_adapter_too(model_folder, processor, tasks, tmp_path):
    found = {}
    for name, keys in {"plain": {}, "checkpointing": {"gradient_checkpointing": True}, "bf16": {"bf16": True}}.items():
        args = arguments(tmp_path / name, max_steps=3, **LORA | keys)
        model = load_clip(model_folder)[0]
        trainer = PaintTrainer(model, args, train_task=tasks[0], processing_class=processor)
        trainer.train()
        trainer.save_model(str(tmp_path / name / "adapter"))
        found[name] = load_file(tmp_path / name / "adapter" / "adapter_model.safetensors")
    assert distance(found["checkpointing"], found["plain"]) < 1e-5
    assert {tensor.dtype for tensor in found["bf16"].values()} == {torch.float32}
    assert 0 < distance(found["bf16"], found["plain"]) < 0.05


def test_an_adapter_of_a_base_on_the_hub_is_found_with_it(hub, model_folder, tasks, tmp_path):
    api = HfApi()
    api.create_repo("tester/clip")
    api.upload_folder(repo_id="tester/clip", folder_path=model_folder)
    patch_single("tester/clip", tasks[0], [tasks[2]], arguments(tmp_path / "run", **LORA), alphas=[0.5])
    commit = api.model_info("tester/clip").sha
    for name in ("adapter", "patched_adapter"):
        config = config_of(tmp_path / "run" / name)
        assert (config["base_model_name_or_path"], config["revision"]) == ("tester/clip", commit)
    adapted = CLIPModel.from_pretrained(tmp_path / "run" / "patched_adapter").eval()  # finds its base
    patched = CLIPModel.from_pretrained(tmp_path / "run" / "patched").eval()
    pixels = torch.randn(2, 3, 32, 32)
    features = [clip.get_image_features(pixel_values=pixels).pooler_output for clip in (adapted, patched)]
    assert (features[0] - features[1]).abs().max() < 1e-5


@pytest.mark.slow
def test_a_recipe_patches_the_toy_clip_with_an_adapter(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    from hf_paint.cli import main, run_quickstart as quickstart

    monkeypatch.setattr(quickstart, "NUM_RENDERED", 60)
    monkeypatch.setattr(quickstart, "NUM_TEST_DIGITS", 200)
    toy, tasks = str(quickstart.TOY), {}
    for task in (quickstart._digits(tmp_path / "data"), quickstart._rendered(tmp_path / "data", "shapes")):
        tasks[task.name] = str(tmp_path / f"{task.name}.yaml")
        Path(tasks[task.name]).write_text(yaml.safe_dump(task.to_dict()))
    values = {"model": toy, "patching_tasks": [tasks["digits"]], "supported_tasks": [tasks["shapes"]]}
    values |= {"alphas": [0.5, 1.0], "selection": "supported_within", "tolerance": 0.2, "base_model_id": "me/toy"}
    values |= {"use_peft": True, "lora_r": 4, "learning_rate": 5e-3, "max_steps": 15, "warmup_steps": 2}
    values |= {"per_device_train_batch_size": 32, "use_cpu": True, "output_dir": str(tmp_path / "run")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(values))
    assert main(["patch", "--config", str(tmp_path / "recipe.yaml")]) == 0
    curve = AlphaCurve.from_run(tmp_path / "run")
    before, after = (curve.mean_accuracy(alpha, "patching", "test") for alpha in (0.0, 1.0))
    assert after > before + 0.05
    base = CLIPModel.from_pretrained(toy)
    patched = weights(tmp_path / "run" / "patched")
    assert distance(loaded(base, tmp_path / "run" / "patched_adapter"), patched) < 1e-6
    sizes = [
        (tmp_path / "run" / name).stat().st_size
        for name in ("patched_adapter/adapter_model.safetensors", "patched/model.safetensors")
    ]
    assert 10 * sizes[0] < sizes[1]
