"""LoRA adapters as files: scaled, combined, merged and extracted; compared with peft and with formulas in float64."""

import json
import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import CLIPModel

from hf_paint import InputError, combine_adapters, extract_lora, interpolate, interpolate_adapter, scale_adapter
from hf_paint.adapters.lora_extraction import adapted_weights
from hf_paint.cli.main import main
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.models.towers import image_tower_weights
from hf_paint.weights.layers import IMAGE_TOWER
from peft_adapters import config_of, loaded
from printed import printed_rows
from tensors import distance
from tiny_families import make


ATTENTION = r"vision_model\.encoder\.layers\.\d+\.self_attn\.(q|v)_proj"
MLP = r"vision_model.*fc1|visual_projection"
CONFIGS = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION},
    "rslora": {"r": 3, "lora_alpha": 2, "target_modules": MLP, "use_rslora": True},
    "patterns": {
        "r": 2,
        "target_modules": f"{ATTENTION}|{MLP}",
        "rank_pattern": {"layers.0.self_attn.q_proj": 5, "visual_projection": 1},
        "alpha_pattern": {"layers.0.self_attn.q_proj": 3, r"layers\.\d\.mlp\.fc1": 7},
    },
    "bias of factors": {"r": 4, "target_modules": MLP.partition("|")[0], "lora_bias": True},
}


def make_adapter(model, folder, **config):
    """Write an adapter with random factors using plain peft, and return its folder and the merged weights."""
    torch.manual_seed(len(str(config)))
    adapted = get_peft_model(deepcopy(model), LoraConfig(**config))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    adapted.save_pretrained(folder)
    return folder, adapted.merge_and_unload().state_dict()


def changes(folder, config):
    """Return tensor -> scale * B @ A in float64, from the files and the formula of the LoRA paper."""
    factors = load_file(Path(folder) / "adapter_model.safetensors")
    found = {}
    for name, a in factors.items():
        if name.endswith("lora_A.weight"):
            b = factors[name.replace("lora_A", "lora_B")]
            rank = config["r"]
            scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            found[f"{module}.weight"] = scale * b.double() @ a.double()
    return found


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.3, 0.9, 1.0, 1.5])
@pytest.mark.parametrize("kind", CONFIGS)
def test_scaled_adapter_is_the_interpolation_of_merged_weights(model, tmp_path, kind, alpha):
    adapter, theta_1 = make_adapter(model, tmp_path / "adapter", **CONFIGS[kind])
    scale_adapter(adapter, alpha, tmp_path / "scaled", extrapolate=True)
    found, theta_0 = loaded(model, tmp_path / "scaled"), model.state_dict()
    expected = {name: (1 - alpha) * theta_0[name].double() + alpha * theta_1[name].double() for name in theta_0}
    assert distance(theta_0, theta_1) > 0.05
    assert distance(found, expected) < 1e-6
    assert distance(found, interpolate(theta_0, theta_1, alpha, extrapolate=True)) < 1e-6
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (adapter, tmp_path / "scaled")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("kind", ["plain", "rslora"])
def test_scaled_adapter_is_the_formula(model, tmp_path, kind):
    adapter, _ = make_adapter(model, tmp_path / "adapter", **CONFIGS[kind])
    scale_adapter(adapter, 0.3, tmp_path / "scaled")
    expected = {name: tensor.double() for name, tensor in model.state_dict().items()}
    for name, change in changes(adapter, CONFIGS[kind]).items():
        expected[name] = expected[name] + 0.3 * change
    assert distance(loaded(model, tmp_path / "scaled"), expected) < 1e-6


def test_transformers_loads_a_scaled_adapter_by_itself(model, model_folder, adapter_folder, tmp_path):
    scale_adapter(adapter_folder, 0.3, tmp_path / "scaled")
    adapted = CLIPModel.from_pretrained(model_folder)
    adapted.load_adapter(str(tmp_path / "scaled"))
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    merged = deepcopy(model)
    merged.load_state_dict(interpolate(model.state_dict(), loaded(model, adapter_folder), 0.3))
    features = [clip.eval().get_image_features(pixel_values=pixels).pooler_output for clip in (adapted, merged, model)]
    assert (features[0] - features[1]).abs().max() < 1e-5
    assert (features[0] - features[2]).abs().max() > 1e-2


def test_combined_adapters_are_the_sum_of_their_changes(model, tmp_path):
    kinds = {"plain": 0.4, "rslora": -0.7, "patterns": 0.25}
    adapters, thetas = {}, {}
    for kind in kinds:
        adapters[kind], thetas[kind] = make_adapter(model, tmp_path / kind, **CONFIGS[kind])
    combine_adapters(adapters, kinds, tmp_path / "all")
    theta_0 = {name: tensor.double() for name, tensor in model.state_dict().items()}
    expected = {
        name: theta_0[name] + sum(alpha * (thetas[kind][name] - theta_0[name]) for kind, alpha in kinds.items())
        for name in theta_0
    }
    assert distance(loaded(model, tmp_path / "all"), expected) < 1e-6
    tower = {name: tensor for name, tensor in expected.items() if name.startswith(IMAGE_TOWER)}
    assert distance(adapted_weights(image_tower_weights(model), tmp_path / "all"), tower) < 1e-6
    scale_adapter(tmp_path / "all", 0.5, tmp_path / "half")  # a combined adapter scales like any other
    half = {name: (theta_0[name] + expected[name]) / 2 for name in theta_0}
    assert distance(loaded(model, tmp_path / "half"), half) < 1e-6


@pytest.mark.parametrize(
    "layer", [r".*\.(expand_conv|reduce)", r".*embeddings\.convolution"]
)  # of one pixel, and of nine
def test_adapters_of_convolutions_add_up_too(layer, tmp_path):
    model, _ = make("align")
    adapters, thetas = {}, {}
    for rank in (4, 6):
        config = {"r": rank, "target_modules": rf"vision_model\.{layer}"}
        adapters[f"rank {rank}"], thetas[rank] = make_adapter(model, tmp_path / f"{rank}", **config)
    tower = image_tower_weights(model)
    assert distance(adapted_weights(tower, tmp_path / "4"), {name: thetas[4][name] for name in tower}) < 1e-6
    combine_adapters(adapters, {"rank 4": 0.5, "rank 6": -0.3}, tmp_path / "both")
    found = loaded(model, tmp_path / "both")
    expected = {n: 0.8 * x.double() + 0.5 * thetas[4][n] - 0.3 * thetas[6][n] for n, x in tower.items()}
    assert distance({name: found[name] for name in tower}, expected) < 1e-6
    assert distance(expected, tower) > 1e-3


def test_adapters_of_convolutions_in_groups_are_not_added_up(tmp_path):
    model = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, groups=2))
    get_peft_model(model, LoraConfig(r=4, target_modules=["0"])).save_pretrained(tmp_path / "a")
    with pytest.raises(InputError, match="0' is a grouped convolution"):
        combine_adapters({"a": tmp_path / "a"}, {"a": 1.0}, tmp_path / "b")


REFUSED = {
    "DoRA": {"use_dora": True},
    "modules trained in full": {"modules_to_save": ["visual_projection"]},
    "trained biases": {"bias": "all"},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_not_linear_is_refused_and_interpolated_as_merged_weights(model, model_folder, tmp_path, reason):
    adapter, theta_1 = make_adapter(model, tmp_path / "adapter", **CONFIGS["plain"] | REFUSED[reason])
    with pytest.raises(InputError, match=f"cannot be scaled by alpha: {reason}"):
        scale_adapter(adapter, 0.5, tmp_path / "scaled")
    with pytest.raises(InputError, match=f"cannot be scaled by alpha: {reason}"):
        combine_adapters({"a": adapter}, {"a": 1.0}, tmp_path / "combined")
    assert not (tmp_path / "scaled").exists()
    interpolate_adapter(model_folder, adapter, {0.3: tmp_path / "merged"})
    found = load_file(tmp_path / "merged" / "model.safetensors")
    assert distance(found, interpolate(model.state_dict(), theta_1, 0.3)) < 1e-6


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"peft_type": "LOHA"}, "its type is LOHA, not LORA"),
        ({"init_lora_weights": "pissa"}, "`init_lora_weights: pissa` changes the weights of the base"),
        ({"use_qalora": True}, "this variant of LoRA"),
        ({"trainable_token_indices": [1]}, "embeddings trained in full"),
    ],
)
def test_other_adapters_are_refused_by_their_config(adapter_folder, tmp_path, changed, reason):
    copy_with(adapter_folder, tmp_path / "adapter", **changed)
    with pytest.raises(InputError, match=reason):
        scale_adapter(tmp_path / "adapter", 0.5, tmp_path / "scaled")


def copy_with(adapter, folder, **changed):
    folder.mkdir()
    config = json.loads((Path(adapter) / "adapter_config.json").read_text()) | changed
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "adapter_model.safetensors").write_bytes((Path(adapter) / "adapter_model.safetensors").read_bytes())
    return folder


def test_a_base_is_an_id_on_the_hub_and_never_a_folder(adapter_folder, tmp_path, caplog):
    for base in (str(tmp_path), "/somewhere/clip"):
        here = copy_with(adapter_folder, tmp_path / f"at-{len(base)}", base_model_name_or_path=base, revision="main")
        scale_adapter(here, 0.5, tmp_path / f"scaled-{len(base)}")
        assert config_of(tmp_path / f"scaled-{len(base)}")["base_model_name_or_path"] is None
        assert "Set base_model_id" in caplog.text
        scale_adapter(here, 0.5, tmp_path / f"named-{len(base)}", base_model_id="me/clip")
        named = config_of(tmp_path / f"named-{len(base)}")
        assert (named["base_model_name_or_path"], named["revision"]) == ("me/clip", None)
    there = copy_with(adapter_folder, tmp_path / "hub", base_model_name_or_path="me/clip", revision="abc")
    scale_adapter(there, 0.5, tmp_path / "kept")
    assert config_of(tmp_path / "kept")["revision"] == "abc"
    with pytest.raises(InputError, match="base_model_id must be the Hub repository id of the base model"):
        scale_adapter(there, 0.5, tmp_path / "wrong", base_model_id="/somewhere/clip")


def test_adapters_of_different_bases_are_not_combined(adapter_folder, tmp_path):
    first = copy_with(adapter_folder, tmp_path / "first", base_model_name_or_path="me/clip", revision="abc")
    second = copy_with(adapter_folder, tmp_path / "second", base_model_name_or_path="you/clip")
    alphas = {"first": 1.0, "second": 1.0}
    adapters = {"first": first, "second": second}
    with pytest.raises(InputError, match="have different base models: me/clip at abc, you/clip"):
        combine_adapters(adapters, alphas, tmp_path / "both")
    combine_adapters(adapters, alphas, tmp_path / "both", base_model_id="me/clip", revision="abc")
    assert (config_of(tmp_path / "both")["base_model_name_or_path"], config_of(tmp_path / "both")["r"]) == (
        "me/clip",
        8,
    )


def test_what_cannot_be_read_is_refused(model, model_folder, adapter_folder, tmp_path):
    with pytest.raises(InputError, match="is not a peft adapter"):
        scale_adapter(model_folder, 0.5, tmp_path / "out")
    with pytest.raises(InputError, match="alpha must be in"):
        scale_adapter(adapter_folder, 1.5, tmp_path / "out")
    with pytest.raises(InputError, match="is used twice"):
        scale_adapter(adapter_folder, 0.5, adapter_folder, overwrite=True)
    scale_adapter(adapter_folder, 0.5, tmp_path / "out")
    with pytest.raises(InputError, match="already contains a model"):
        scale_adapter(adapter_folder, 0.5, tmp_path / "out")
    biased, _ = make_adapter(model, tmp_path / "biased", **CONFIGS["bias of factors"])
    with pytest.raises(InputError, match="is not one of a pair of factors"):
        combine_adapters({"a": biased}, {"a": 1.0}, tmp_path / "combined")
    (Path(biased) / "adapter_model.safetensors").write_bytes(b"torn")
    for call in (
        lambda: combine_adapters({"a": biased}, {"a": 1.0}, tmp_path / "combined"),
        lambda: interpolate_adapter(model_folder, biased, {0.5: tmp_path / "merged"}),
    ):
        with pytest.raises(InputError, match="damaged|cannot be merged"):
            call()
    (Path(biased) / "adapter_model.safetensors").unlink()
    with pytest.raises(InputError, match="only in safetensors"):
        scale_adapter(biased, 0.5, tmp_path / "none")


def test_an_adapter_of_another_model_is_not_merged(model, model_folder, tmp_path):
    adapter, _ = make_adapter(model.vision_model, tmp_path / "adapter", r=2, target_modules=["q_proj"])
    with pytest.raises(InputError, match="belongs to another model"):
        interpolate_adapter(model_folder, adapter, {0.5: tmp_path / "merged"})


def test_without_peft_it_is_named(model_folder, adapter_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    scale_adapter(adapter_folder, 0.5, tmp_path / "scaled")
    with pytest.raises(InputError, match=r"pip install 'hf-paint\[peft\]'"):
        interpolate_adapter(model_folder, adapter_folder, {0.5: tmp_path / "merged"})


def test_interpolate_writes_adapters_or_merged_models(model, model_folder, adapter_folder, tmp_path, capsys):
    alphas = ["--alphas", "0", "0.3", "1"]
    small, large = str(tmp_path / "small"), str(tmp_path / "large")
    assert main(["interpolate", "--adapter", adapter_folder, *alphas, "--output_dir", small]) == 0
    assert main(["interpolate", model_folder, "--adapter", adapter_folder, *alphas, "--output_dir", large]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{large}/alpha-1.00"
    theta_0, theta_1 = model.state_dict(), loaded(model, adapter_folder)
    for alpha in (0.0, 0.3, 1.0):
        merged = load_file(f"{large}/alpha-{alpha:.2f}/model.safetensors")
        assert all(torch.equal(merged[name], x) for name, x in interpolate(theta_0, theta_1, alpha).items())
        assert distance(loaded(model, f"{small}/alpha-{alpha:.2f}"), merged) < 1e-6
        CLIPModel.from_pretrained(f"{large}/alpha-{alpha:.2f}")


def test_models_are_made_in_folders(adapter_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_paint.models.loading.load_clip", None)  # before anything is loaded
    with pytest.raises(InputError, match="'openai/clip-vit-base-patch32' is not a folder."):
        interpolate_adapter("openai/clip-vit-base-patch32", adapter_folder, {0.5: tmp_path / "merged"})


def test_a_half_base_is_merged_in_float32_and_rounded_once(model, processor, adapter_folder, tmp_path):
    save_clip(deepcopy(model).half(), processor, tmp_path / "half")
    interpolate_adapter(tmp_path / "half", adapter_folder, {0.3: tmp_path / "out"})
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    expected = interpolate(model.state_dict(), loaded(model, adapter_folder), 0.3)
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(found[name], tensor.half()) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Pass either THETA_0 and THETA_1"),
        (["a"], "Pass either THETA_0 and THETA_1"),
        (["a", "b", "--adapter", "c"], "Pass either THETA_0 and THETA_1"),
        (["--adapter", "c", "--save_dtype", "float16"], "--save_dtype applies only to models"),
        (["a", "b", "--base_model_id", "me/clip"], "--base_model_id only to adapters"),
    ],
)
def test_interpolate_refuses_what_it_would_pass_over(arguments, message, tmp_path, capsys):
    assert main(["interpolate", *arguments, "--alphas", "0.5", "--output_dir", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def fine_tuned(model):
    """The image tower of the tiny CLIP and one in which every tensor differs."""
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    generator = torch.Generator().manual_seed(0)
    return theta_0, {n: x + 0.02 * torch.randn(x.shape, generator=generator) for n, x in theta_0.items()}


def is_linear(name, tensor):
    return tensor.ndim == 2 and "embedding" not in name


def test_extraction_at_full_rank_is_the_change_and_below_it_the_nearest(model, fine_tuned, tmp_path):
    theta_0, theta_1 = fine_tuned
    found = extract_lora(theta_0, theta_1, [100, 2], tmp_path, base=("me/clip", "abc"))
    whole, low = (loaded(model, tmp_path / f"rank-{rank}") for rank in (100, 2))
    squares = {name: float(((theta_1[name] - theta_0[name]).double() ** 2).sum()) for name in theta_0}
    kept = {}
    for name, x_0 in theta_0.items():
        assert torch.equal(whole[name], x_0) != is_linear(name, x_0)
        if is_linear(name, x_0):
            assert (whole[name] - theta_1[name]).abs().max() < 1e-6
            change = (theta_1[name].double() - x_0.double()).numpy()
            u, s, v = np.linalg.svd(change, full_matrices=False)
            assert np.abs((low[name].double() - x_0.double()).numpy() - (u[:, :2] * s[:2]) @ v[:2]).max() < 1e-6
            kept[name] = (s[:2] ** 2).sum()
            assert found.layers[name.removesuffix(".weight")][2] == pytest.approx(kept[name] / squares[name], rel=1e-5)
    linear, total = sum(squares[name] for name in kept), sum(squares.values())
    assert found.kept_of_linear == pytest.approx({2: sum(kept.values()) / linear, 100: 1})
    assert found.kept == pytest.approx({2: sum(kept.values()) / total, 100: linear / total})
    assert found.left_out == pytest.approx({name: x / total for name, x in squares.items() if name not in kept})
    assert json.loads((tmp_path / "extraction.json").read_text())["kept"]["2"] == found.kept[2]
    low_config = config_of(tmp_path / "rank-2")
    assert (low_config["base_model_name_or_path"], low_config["revision"], low_config["r"]) == ("me/clip", "abc", 2)


def test_extraction_refuses_what_makes_no_sense(fine_tuned, tmp_path):
    theta_0, theta_1 = fine_tuned
    for ranks in ([], [0], [4, -1]):
        with pytest.raises(InputError, match="integers of at least 1"):
            extract_lora(theta_0, theta_1, ranks, tmp_path)
    with pytest.raises(InputError, match="no linear layer has changed"):
        extract_lora(theta_0, theta_0, [2], tmp_path)
    with pytest.raises(InputError, match="only in theta_0"):
        extract_lora(theta_0, {}, [2], tmp_path)


def test_extract_lora_tells_what_each_rank_keeps_and_does(model, model_folder, tasks_folder, tmp_path, capsys):
    adapter, _ = make_adapter(model, tmp_path / "adapter", **CONFIGS["plain"])
    interpolate_adapter(model_folder, adapter, {1.0: tmp_path / "theta_1"})
    command = ["extract-lora", model_folder, str(tmp_path / "theta_1"), "--rank", "1", "4", "--use_cpu"]
    command += ["--output_dir", str(tmp_path / "lora"), "--task", str(tasks_folder / "colours.yaml"), "--alpha", "0.5"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    _, *rows = printed_rows(shown)
    assert [row[0] for row in rows] == ["1", "4", "theta_1"]
    assert rows[1][1:3] == ["100.00 %", "100.00 %"]
    assert "0.00 % are in 0 tensors" in shown
    accuracies = []
    for folder in (tmp_path / "lora" / "rank-1", adapter):
        scale_adapter(folder, 0.5, tmp_path / f"half-{Path(folder).name}")
        adapted = deepcopy(model)
        adapted.load_state_dict(loaded(model, tmp_path / f"half-{Path(folder).name}"))
        accuracies.append(accuracy(adapted, tasks_folder, model_folder))
    assert [row[-1] for row in rows] == [f"{100 * x:.2f} %" for x in (accuracies[0], accuracies[1], accuracies[1])]


def accuracy(model, tasks_folder, model_folder):
    from hf_paint import evaluate_tasks, get_task

    processor = load_clip(model_folder)[1]
    return evaluate_tasks(model, [get_task(str(tasks_folder / "colours.yaml"))], processor=processor)[0].accuracy


def test_an_adapter_is_no_model_by_itself(adapter_folder):
    with pytest.raises(InputError, match=r"is a peft adapter\. Merge it into its base: hf-paint interpolate BASE"):
        load_clip(str(adapter_folder))
