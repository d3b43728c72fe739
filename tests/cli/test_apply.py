"""`hf-paint apply` with every form of a patch."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPProcessor

from hf_paint import (
    InputError,
    PushOptions,
    apply_patch,
    combine,
    combine_adapters,
    extract_lora,
    interpolate,
    load_classifier,
    push_variants,
    save_patch,
    scale_adapter,
)
from hf_paint.cli.apply import split_alpha
from hf_paint.cli.main import main
from hf_paint.models.loading import save_clip
from hf_paint.models.task_file import read_tasks
from hf_paint.models.towers import image_tower_weights, with_weights


def moved(tower, seed):
    generator = torch.Generator().manual_seed(seed)
    return {name: x + 0.01 * torch.randn(x.shape, generator=generator) for name, x in tower.items()}


def apply(*arguments):
    return main(["apply", *map(str, arguments)])


def saved(folder):
    return load_file(Path(folder) / "model.safetensors")


def check_same(folder, base, tower):
    """Check the bits of every tensor: the tower is the given one, and everything else is the base's."""
    weights, expected = saved(folder), saved(base)
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        assert torch.equal(tensor, tower.get(name, expected[name])), name


@pytest.fixture(scope="module")
def towers(_base_model, tmp_path_factory):
    """theta_0, and two patches of it with their fine-tuned towers."""
    folder = tmp_path_factory.mktemp("patches")
    theta_0 = {name: x.clone() for name, x in image_tower_weights(_base_model).items()}
    thetas = {name: moved(theta_0, seed) for seed, name in enumerate(("first", "second"), 1)}
    for name, theta in thetas.items():
        save_patch(theta_0, theta, folder / name, base_model_id="o/clip", alpha=0.4)
    return theta_0, thetas, folder


def test_several_patches_are_task_arithmetic(towers, model_folder, tmp_path, capsys):
    theta_0, thetas, patches = towers
    assert apply(model_folder, f"{patches / 'first'}@0.5", patches / "second", "--output_dir", tmp_path / "both") == 0
    expected = combine(theta_0, thetas, {"first": 0.5, "second": 0.4})
    check_same(tmp_path / "both", model_folder, expected)
    shown = capsys.readouterr().out
    assert f"0.50 times the change of {patches / 'first'}, 0.40 times the change of {patches / 'second'}" in shown
    for file in Path(model_folder).iterdir():
        if file.name != "model.safetensors":
            assert (tmp_path / "both" / file.name).read_bytes() == file.read_bytes()
    assert torch.equal(
        CLIPModel.from_pretrained(tmp_path / "both").visual_projection.weight, expected["visual_projection.weight"]
    )
    CLIPProcessor.from_pretrained(tmp_path / "both")
    card = (tmp_path / "both" / "README.md").read_text()
    assert "was not evaluated" in card
    assert str(patches) not in card
    in_memory = apply_patch(model_folder, {patches / "first": 0.5, patches / "second": 0.4})
    check_same(tmp_path / "both", model_folder, image_tower_weights(in_memory))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_are_rounded_once(towers, model_folder, tmp_path, dtype):
    theta_0, thetas, patches = towers
    assert apply(model_folder, patches / "first", "--output_dir", tmp_path / "half", "--save_dtype", dtype) == 0
    expected = interpolate(theta_0, thetas["first"], 0.4)
    for name, tensor in saved(tmp_path / "half").items():
        wide = expected.get(name, saved(model_folder)[name])
        assert torch.equal(tensor, wide.to(getattr(torch, dtype)) if wide.is_floating_point() else wide)
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == dtype


def test_a_sharded_base_stays_sharded(towers, model, processor, tmp_path):
    theta_0, thetas, patches = towers
    model.save_pretrained(tmp_path / "base", max_shard_size="50KB")
    processor.save_pretrained(tmp_path / "base")
    assert apply(tmp_path / "base", patches / "first", "--output_dir", tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "base").glob("model*")} == {p.name for p in (tmp_path / "out").glob("model*")}
    expected = interpolate(theta_0, thetas["first"], 0.4)
    weights = CLIPModel.from_pretrained(tmp_path / "out").state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())


def test_a_run_and_its_models_are_patches(finished_run, model_folder, tmp_path):
    theta_0, theta_1 = (saved(folder) for folder in (model_folder, finished_run / "theta_1"))
    assert apply(model_folder, finished_run, "--output_dir", tmp_path / "all") == 0
    patched = saved(finished_run / "patched")
    assert all(torch.allclose(x, patched[name], atol=1e-7) for name, x in saved(tmp_path / "all").items())
    assert apply(model_folder, f"{finished_run / 'theta_1'}@0.3", "--output_dir", tmp_path / "some") == 0
    check_same(tmp_path / "some", model_folder, interpolate(theta_0, theta_1, 0.3))
    tasks = read_tasks(tmp_path / "all")
    assert [task.name for task in tasks] == ["colours", "others"]
    assert load_classifier(tmp_path / "all", "colours").class_names == ("red", "green", "blue", "grey")
    copy = shutil.copytree(finished_run / "patched", tmp_path / "copied")  # its card names the base
    assert apply(model_folder, f"{copy}@0.5", "--output_dir", tmp_path / "half") == 0
    check_same(tmp_path / "half", model_folder, interpolate(theta_0, patched, 0.5))


def test_adapters_that_know_their_base_are_patches(towers, model_folder, tmp_path, capsys, adapter_folder):
    theta_0, thetas, _ = towers
    extract_lora(theta_0, thetas["first"], [4], tmp_path / "lora", base=("o/clip", None))
    scale_adapter(tmp_path / "lora" / "rank-4", 0.5, tmp_path / "scaled")
    combine_adapters({"a": tmp_path / "scaled"}, {"a": 1.0}, tmp_path / "combined")
    assert main(["interpolate", model_folder, "--adapter", str(tmp_path / "combined"), "--alphas", "0.6",
                 "--output_dir", str(tmp_path / "merged")]) == 0  # fmt: skip
    assert apply(model_folder, f"{tmp_path / 'combined'}@0.6", "--output_dir", tmp_path / "out") == 0
    weights, merged = saved(tmp_path / "out"), saved(tmp_path / "merged" / "alpha-0.60")
    assert all(torch.allclose(weights[name], tensor, atol=1e-6) for name, tensor in merged.items())
    assert not all(torch.equal(weights[name], tensor) for name, tensor in theta_0.items())
    assert apply(model_folder, adapter_folder, "--output_dir", tmp_path / "unknown") == 2
    assert "does not contain the fingerprint of its base" in capsys.readouterr().err


def test_nothing_is_written_if_one_patch_belongs_to_another_base(
    towers, model, processor, model_folder, tmp_path, capsys
):
    theta_0, _, patches = towers
    other = moved(theta_0, 3)
    save_clip(with_weights(deepcopy(model), other), processor, tmp_path / "other")
    save_patch(other, moved(other, 4), tmp_path / "third", base_model_id="o/other", alpha=0.5)
    assert apply(model_folder, patches / "first", tmp_path / "third", "--output_dir", tmp_path / "out") == 2
    error = capsys.readouterr().err
    folders = patches / "first", tmp_path / "third"
    configs = [json.loads((folder / "patch_config.json").read_text()) for folder in folders]
    assert all(config["base_fingerprint"] in error for config in configs)
    assert "it needs o/other" in error
    assert not (tmp_path / "out").exists()


def test_mistakes(towers, model_folder, tmp_path, capsys):
    _, _, patches = towers
    first = patches / "first"
    for arguments, message in {
        (model_folder, f"{first}@1.5"): "alpha must be in [0, 1], got 1.5",
        (model_folder, first, first): "A patch is named twice",
        (model_folder, model_folder): "does not say which base it was made from",
        (model_folder, tmp_path): "is not a patch: it has no patch_config.json",
        (first, first): "has no safetensors files",
        (model_folder, tmp_path / "nowhere"): "is neither a folder nor a Hub repository id",
        (model_folder, first, "--save_dtype", "int8"): "save_dtype must be one of float32, bfloat16, float16",
    }.items():
        assert apply(*arguments, "--output_dir", tmp_path / "out") == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out" / "model.safetensors").exists()
    assert apply(model_folder, first, "--output_dir", model_folder) == 2
    assert apply(model_folder, f"{first}@1.5", "--output_dir", tmp_path / "out", "--extrapolate") == 0
    assert apply(model_folder, first, "--output_dir", tmp_path / "out") == 2
    assert "already contains a model" in capsys.readouterr().err
    assert apply(model_folder, first, "--output_dir", tmp_path / "out", "--overwrite") == 0
    with pytest.raises(InputError, match="There is nothing to apply"):
        apply_patch(model_folder, {})


def test_alphas_are_told_from_revisions_and_folders(tmp_path):
    assert split_alpha("me/patch") == ("me/patch", None)
    assert split_alpha("me/patch@0.5") == ("me/patch", 0.5)
    assert split_alpha("me/patch@.5") == ("me/patch", 0.5)
    assert split_alpha("me/patch@1e-1") == ("me/patch", 0.1)
    assert split_alpha("me/patch@v1.0") == ("me/patch@v1.0", None)
    assert split_alpha("me/patch@1.0@0.5") == ("me/patch@1.0", 0.5)
    assert split_alpha("me/patch@nan") == ("me/patch@nan", None)
    (tmp_path / "run@0.5").mkdir()
    assert split_alpha(f"{tmp_path}/run@0.5") == (f"{tmp_path}/run@0.5", None)
    assert split_alpha(f"{tmp_path}/run@0.5@1") == (f"{tmp_path}/run@0.5", 1.0)


def test_a_published_delta(hub, finished_run, model_folder, tmp_path):
    push_variants(finished_run, "tester/patch", options=PushOptions(base_model_id="o/clip", form="delta"))
    push_variants(finished_run, "tester/clip", options=PushOptions(base_model_id="o/clip"), alphas=[0.0])
    assert apply("tester/clip@alpha-0.00", "tester/patch@main@0.3", "--output_dir", tmp_path / "out") == 0
    theta_0, theta_1 = (saved(folder) for folder in (model_folder, finished_run / "theta_1"))
    check_same(tmp_path / "out", model_folder, interpolate(theta_0, theta_1, 0.3))
    assert (tmp_path / "out" / "tasks.json").read_bytes() == (finished_run / "tasks.json").read_bytes()
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.base_model == "tester/clip"
    assert card.data.hf_paint["applied"] == [{"patch": "tester/patch", "alpha": 0.3}]
    assert "[tester/patch](https://huggingface.co/tester/patch) at `main` | 0.30 |" in card.content
