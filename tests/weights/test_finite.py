"""NaN and inf are refused by the name of their tensor, wherever weights are read or made."""

import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_paint import InputError, apply_patch, combine, evaluate_tasks, interpolate, interpolate_checkpoints
from hf_paint.adapters.lora_extraction import adapted_weights, extract_lora
from hf_paint.adapters.patch import save_patch
from hf_paint.merging.adamerging import adamerging
from hf_paint.merging.dare import dare
from hf_paint.merging.fisher import interpolate_fisher
from hf_paint.merging.isotropic import iso_c, iso_cts
from hf_paint.merging.layerwise import interpolate_layerwise
from hf_paint.merging.learned_soups import learned_soup
from hf_paint.merging.model_stock import interpolate_model_stock
from hf_paint.merging.path import Line
from hf_paint.merging.projection import merge_by_projection
from hf_paint.merging.regmean import regmean
from hf_paint.merging.soups import greedy_soup, uniform_soup
from hf_paint.merging.ties import ties
from hf_paint.merging.tsv import tsv
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.models.stored import StoredTower
from hf_paint.models.towers import image_tower_weights, with_weights
from hf_paint.weights.checkpoints import combine_checkpoints


NAMES = ("w", "bias")
MOVED = "vision_model.encoder.layers.0.mlp.fc1.weight"
VALUES = [torch.nan, torch.inf]


def model(seed):
    generator = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(6, 6, generator=generator), "bias": torch.randn(6, generator=generator)}


def damaged(weights, name, value):
    changed = {key: x.clone() for key, x in weights.items()}
    changed[name].view(-1)[-1] = value
    return changed


def total(theta):
    return float(theta["w"].sum() + theta["bias"].sum())


def through_soup(theta_0, thetas):
    return learned_soup(thetas, lambda theta: theta["w"].square().sum(), steps=1)


def fisher(theta_0, thetas):
    information = {name: torch.ones_like(x) for name, x in theta_0.items()}
    return interpolate_fisher(theta_0, thetas["b"], information, information, 0.5)


def by_entropy(theta_0, thetas):
    return adamerging(theta_0, thetas, lambda theta: theta["w"].square().sum(), steps=1)


SEVERAL = {
    "combine": partial(combine, alphas={"a": 0.5, "b": 0.5}),
    "ties": ties,
    "ties, all entries": partial(ties, density=1.0),
    "dare": dare,
    "model_stock": interpolate_model_stock,
    "tsv": tsv,
    "iso_c": iso_c,
    "iso_cts": iso_cts,
    "regmean": lambda theta_0, thetas: regmean(thetas, {key: {"w": torch.eye(6)} for key in thetas}),
    "uniform_soup": lambda theta_0, thetas: uniform_soup(thetas),
    "uniform_soup of one": lambda theta_0, thetas: uniform_soup({"b": thetas["b"]}),
    "greedy_soup": lambda theta_0, thetas: greedy_soup(thetas, total),
    "learned_soup": through_soup,
    "adamerging": by_entropy,
    "projection": merge_by_projection,
}
ONE = {
    "interpolate": partial(interpolate, alpha=0.5),
    "interpolate, 1": partial(interpolate, alpha=1),
    "fisher": lambda theta_0, theta_1: fisher(theta_0, {"b": theta_1}),
    "layerwise": partial(interpolate_layerwise, alphas={"w": 0.5}, default=0.5),
    "line": lambda theta_0, theta_1: Line(theta_0, theta_1).at(0.5),
    "at once": lambda theta_0, theta_1: Line(theta_0, theta_1).to(torch.device("cpu")).at(0.5),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", SEVERAL)
def test_a_damaged_ingredient_is_named(method, name, value):
    thetas = {"a": model(1), "b": damaged(model(2), name, value)}
    with pytest.raises(InputError, match=f"'{name}' of b holds NaN or inf"):
        SEVERAL[method](model(0), thetas)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("method", ONE)
def test_a_damaged_model_is_named(method, value):
    for name in NAMES:
        with pytest.raises(InputError, match=f"'{name}' of theta_1 holds NaN or inf"):
            ONE[method](model(0), damaged(model(1), name, value))
        if method != "interpolate, 1":
            with pytest.raises(InputError, match=f"'{name}' of theta_0 holds NaN or inf"):
                ONE[method](damaged(model(0), name, value), damaged(model(0), name, value))


def test_a_damaged_base_of_several_is_named():
    for method in ("ties", "dare", "model_stock", "tsv", "combine"):
        with pytest.raises(InputError, match="'w' of theta_0 holds NaN or inf"):
            SEVERAL[method](damaged(model(0), "w", torch.nan), {"a": model(1), "b": model(2)})


def test_what_a_dtype_cannot_hold_is_refused():
    theta_0, theta_1 = ({"w": torch.tensor([end], dtype=torch.float16)} for end in (-6e4, 6e4))
    with pytest.raises(InputError, match="'w' holds numbers that are too large for float16"):
        interpolate(theta_0, theta_1, 1.5, extrapolate=True)
    grown = {name: {"w": torch.full((9,), 3e4, dtype=torch.float16)} for name in "ab"}
    with pytest.raises(InputError, match="'w' holds numbers that are too large for float16"):
        dare({"w": torch.zeros(9, dtype=torch.float16)}, grown, density=0.4)


def write(folder, weights):
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_files_are_refused_and_nothing_is_written(dtype, alpha, tmp_path):
    for value in VALUES:
        bad, good = ({k: x.to(dtype) for k, x in m.items()} for m in (damaged(model(0), "bias", value), model(1)))
        where = tmp_path / str(value)
        folders = (write(where / "0", bad), write(where / "1", good))
        for ends in (folders, folders[::-1]) if alpha == 0.5 else (folders[:: 1 if alpha == 0 else -1],):
            with pytest.raises(InputError, match="'bias' of .*model.safetensors holds NaN or inf"):
                interpolate_checkpoints(*ends, {alpha: where / "out"})
            with pytest.raises(InputError, match="'bias' of .*model.safetensors holds NaN or inf"):
                combine_checkpoints(ends[0], {"a": ends[1]}, {where / "out": {"a": alpha}})
        assert not any(path.is_file() for path in (where / "out").rglob("*"))


def test_files_that_a_dtype_cannot_hold_are_refused(tmp_path):
    folders = [write(tmp_path / end, {"w": torch.tensor([1e5])}) for end in "01"]
    for alpha in (0.0, 0.5, 1.0):
        with pytest.raises(InputError, match="'w' holds numbers that are too large for float16"):
            interpolate_checkpoints(*folders, {alpha: tmp_path / "half"}, save_dtype="float16")
    interpolate_checkpoints(*folders, {0.5: tmp_path / "half"}, save_dtype="bfloat16")


@pytest.fixture
def bad_model(model):
    with torch.no_grad():
        model.get_parameter(MOVED)[0, 0] = torch.nan
    return model


def test_models_are_refused_when_they_are_read_and_when_they_are_saved(
    bad_model, model_folder, processor, task, tmp_path
):
    for read in (load_clip, lambda folder: dict(StoredTower(folder))):
        shutil.copytree(model_folder, folder := tmp_path / f"{id(read)}")
        weights = load_file(folder / "model.safetensors")
        save_file(damaged(weights, MOVED, torch.nan), folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(InputError, match=f"'{MOVED}' of .* holds NaN or inf"):
            read(str(folder))
    with pytest.raises(InputError, match=f"'{MOVED}' of the model to save"):
        save_clip(bad_model, processor, tmp_path / "saved")
    with pytest.raises(InputError, match=f"'{MOVED}' of the CLIPModel in memory"):
        evaluate_tasks(bad_model, [task], processor=processor)


def test_a_model_that_a_dtype_cannot_hold_is_refused(model, processor, tmp_path):
    with torch.no_grad():
        model.get_parameter(MOVED)[0, 0] = 1e5
    with pytest.raises(InputError, match=f"'{MOVED}' holds numbers that are too large for float16"):
        save_clip(with_weights(model, {}, torch.float16), processor, tmp_path / "saved")


def test_no_form_of_a_change_holds_nan(model, patch_folder, adapter_folder, tmp_path):
    theta_0 = {name: x.clone() for name, x in image_tower_weights(model).items()}
    theta_1 = damaged({name: x + 0.01 for name, x in theta_0.items()}, MOVED, torch.nan)
    with pytest.raises(InputError, match=f"'{MOVED}' of theta_1"):
        save_patch(theta_0, theta_1, tmp_path / "patch", alpha=0.0)
    assert not any((tmp_path / "patch").iterdir())
    with pytest.raises(InputError, match=f"'{MOVED}' of theta_1"):
        extract_lora(theta_0, theta_1, [2], tmp_path / "lora")
    reads = {patch_folder: partial(apply_patch, model), adapter_folder: partial(adapted_weights, theta_0)}
    for source, read in reads.items():
        shutil.copytree(source, copy := tmp_path / source.rpartition("/")[2])
        [path] = copy.glob("*.safetensors")
        weights = load_file(path)
        name = next(key for key in weights if "fc1" in key)
        save_file(damaged(weights, name, torch.nan), path, metadata={"format": "pt"})
        (copy / "hf_paint_manifest.json").unlink(missing_ok=True)
        with pytest.raises(InputError, match=f"'{name}' of .* holds NaN or inf"):
            read(copy)
