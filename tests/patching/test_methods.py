"""Methods in a run: theta_1, the path to it, and no repeated work."""

import json
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from safetensors.torch import load_file

from hf_paint import (
    InputError,
    LazyWeights,
    dare,
)
from hf_paint.data.splits import load_splits
from hf_paint.hub.publication import Publication
from hf_paint.merging.averaging import EMACallback, SWACallback
from hf_paint.models.loading import load_clip
from hf_paint.patching import measurements
from hf_paint.results.curve import AlphaCurve
from hf_paint.training.trainer import PaintTrainer
from hf_paint.weights.layers import IMAGE_TOWER
from method_runs import NAMES, SHORT, assert_close, by_transformers, mean, patch, total, tower
from patch_runs import arguments


pytestmark = pytest.mark.usefixtures("_data_stay_the_same")


def model_stock(x_0, parts):
    taus = [(x - x_0).flatten() for x in parts]
    cosines = [a @ b / (a.norm() * b.norm()) for a, b in combinations(taus, 2)]
    cos = max(0.0, float(sum(cosines) / len(cosines)))
    t = len(parts) * cos / (1 + (len(parts) - 1) * cos)
    return (1 - t) * x_0 + t * mean(x_0, parts)


@pytest.mark.parametrize(
    ("method", "formula"), [("uniform_soup", mean), ("task_arithmetic", total), ("model_stock", model_stock)]
)
def test_method_of_several_models_is_its_formula(method, formula, model_folder, tasks, thetas, tmp_path):
    result = patch(model_folder, tasks, tmp_path, method=method, thetas=thetas, save_variants=True)
    theta_0, found = tower(model_folder), [tower(folder) for folder in thetas.values()]
    theta_1 = {name: formula(x, [theta[name] for theta in found]) for name, x in theta_0.items()}
    assert_close(tmp_path / "theta_1", theta_1)
    middle = {name: (x + theta_1[name]) / 2 for name, x in theta_0.items()}
    assert_close(tmp_path / "variants/alpha-0.50", middle)
    assert_close(tmp_path / "patched", tower(tmp_path / f"variants/alpha-{result.alpha:.2f}"))
    assert result.curve.get(0.5, "patching", "colours", "test").correct == by_transformers(
        tmp_path / "variants/alpha-0.50", tasks[0], "test"
    )


def test_ties_is_trim_elect_merge(model_folder, tasks, thetas, tmp_path):
    patch(model_folder, tasks, tmp_path, method={"ties": {"density": 0.3}}, thetas=thetas)
    theta_0 = tower(model_folder)
    found = [{name: x.float() - theta_0[name].float() for name, x in tower(f).items()} for f in thetas.values()]
    moved = [name for name in theta_0 if any(bool(tau[name].any()) for tau in found)]
    flat = torch.stack([torch.cat([tau[name].flatten() for name in moved]) for tau in found])
    for tau in flat:
        smallest = tau.abs().sort(descending=True).values[int(0.3 * len(tau)) - 1]
        tau[tau.abs() < smallest] = 0
    sign = torch.where(flat.sum(dim=0) >= 0, 1, -1)
    flat[flat.sign() != sign] = 0
    merged = flat.sum(dim=0) / (flat != 0).sum(dim=0).clamp(min=1)
    theta_1 = tower(tmp_path / "theta_1")
    step = torch.cat([(theta_1[name] - theta_0[name]).flatten() for name in moved])
    torch.testing.assert_close(step.float(), merged, rtol=0, atol=1e-6)


def test_dare_keeps_its_seed(model_folder, tasks, thetas, tmp_path):
    patch(model_folder, tasks, tmp_path, method={"dare": {"density": 0.5, "seed": 3}}, thetas=thetas)
    models = {name: LazyWeights(folder) for name, folder in thetas.items()}
    assert_close(tmp_path / "theta_1", only_tower(dare(LazyWeights(model_folder), models, density=0.5, seed=3)))


def only_tower(theta):
    return {name: x for name, x in theta.items() if name.startswith(IMAGE_TOWER) and x.is_floating_point()}


DEPTHS = {"vision_model.embeddings": 0, "pre_layrnorm": 0, "layers.0.": 1, "layers.1.": 2, "": 3}


@pytest.mark.parametrize(
    ("method", "factors"),
    [
        ({"lines": {"beta": 0.6}}, [0.4, 0.4, 1.0, 0.4]),
        ({"layerwise": {"factors": [0.1, 0.2, 0.3, 0.4]}}, [0.1, 0.2, 0.3, 0.4]),
        ({"layerwise": {"factors": {"layers.1.": 0.5, "layers": 0.25}, "default": 0.0}}, [0.0, 0.25, 0.5, 0.0]),
    ],
)
def test_layers_move_by_their_factors(method, factors, model_folder, tasks, thetas, tmp_path):
    patch(model_folder, tasks, tmp_path, method=method, thetas={"made": thetas[NAMES[0]]}, save_variants=True)
    theta_0, theta = tower(model_folder), tower(thetas[NAMES[0]])
    depth = {name: next(depth for part, depth in DEPTHS.items() if part in name) for name in theta_0}
    for alpha in (0.5, 1.0):
        expected = {name: x + alpha * factors[depth[name]] * (theta[name] - x) for name, x in theta_0.items()}
        assert_close(tmp_path / f"variants/alpha-{alpha:.2f}", expected)


def test_a_method_that_edits_keeps_the_fine_tuned_model(model_folder, tasks, tmp_path):
    patch(model_folder, tasks, tmp_path / "lines", method="lines", args=SHORT)
    patch(model_folder, tasks, tmp_path / "plain", args=SHORT)
    fine_tuned = tower(tmp_path / "plain/theta_1")
    assert_close(tmp_path / "lines/thetas/fine-tuned/theta_1", fine_tuned)
    records = [AlphaCurve.from_run(tmp_path / name).results for name in ("lines", "plain")]
    first, second = ({(r.alpha, r.task, r.split): r.weights for r in run} for run in records)
    assert {alpha for alpha, task, split in first if first[alpha, task, split] == second[alpha, task, split]} == {0.0}


@pytest.mark.parametrize(
    ("method", "callback"),
    [
        ({"swa": {"start": 0.5, "every": 1}}, SWACallback(0.5, every=1)),
        ({"ema": {"decay": 0.5}}, EMACallback(0.5)),
    ],
)
def test_average_along_the_training_is_the_callback(method, callback, model_folder, tasks, tmp_path):
    patch(model_folder, tasks, tmp_path / "run", method=method)
    model, processor, _ = load_clip(model_folder)
    args = arguments(tmp_path / "trainer", **SHORT)
    PaintTrainer(model, args, train_task=tasks[0], processing_class=processor, callbacks=[callback]).train()
    assert_close(tmp_path / "run/theta_1", only_tower({n: x.detach() for n, x in model.state_dict().items()}))


def test_fisher_path(model_folder, tasks, thetas, tmp_path, monkeypatch):
    method, given = {"fisher": {"num_images": 5}}, {"made": thetas[NAMES[0]]}
    result = patch(model_folder, tasks, tmp_path, method=method, thetas=given, save_variants=True)
    fisher = [load_file(tmp_path / f"fisher/theta_{end}.safetensors") for end in (0, 1)]
    theta_0, theta_1 = tower(model_folder), tower(thetas[NAMES[0]])
    for name, x_0 in theta_0.items():
        f_0, f_1 = (0.5 * information[name].double().clamp(min=1e-8) for information in fisher)
        expected = (f_0 * x_0 + f_1 * theta_1[name]) / (f_0 + f_1)
        torch.testing.assert_close(tower(tmp_path / "variants/alpha-0.50")[name], expected, rtol=0, atol=1e-6)
    assert_close(tmp_path / "variants/alpha-1.00", theta_1)
    found = {r.alpha: r.weights for r in result.curve.results}
    assert len(set(found.values())) == 3
    monkeypatch.setattr(measurements, "estimate_fisher", None)
    assert patch(model_folder, tasks, tmp_path, method=method, thetas=given, save_variants=True).alpha == result.alpha
    publication = Publication.from_run(tmp_path, "me/clip", base_model_id="openai/clip")
    publication.write_model(0.5, tmp_path / "pushed")
    assert_close(tmp_path / "pushed", tower(tmp_path / "variants/alpha-0.50"))
    assert "Fisher information" in publication.card("main")
    with pytest.raises(InputError, match="that of 'fisher' is not straight"):
        Publication.from_run(tmp_path, "me/clip", base_model_id="openai/clip", delta="float32")


def test_fisher_images_are_training_images(model_folder, tasks, thetas, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        measurements, "estimate_fisher", lambda tower, head, batches, seed: seen.append(batches) or tiny(tower)
    )
    patch(model_folder, tasks, tmp_path, method={"fisher": {"num_images": 3}}, thetas={"made": thetas[NAMES[0]]})
    (pixels,) = seen[0]
    processor = load_clip(model_folder)[1]
    rows = load_splits(tasks[0], ("train",))["train"].rows["image"]
    train = processor(images=list(rows), return_tensors="pt").pixel_values
    assert len(pixels) == 3
    assert all(any(torch.allclose(image, other, atol=1e-5) for other in train) for image in pixels)


def tiny(tower):
    return {name: torch.ones_like(parameter) for name, parameter in tower.named_parameters()}


def test_learned_soup_is_a_mean_that_fits_the_validation_images(model_folder, tasks, thetas, tmp_path):
    method = {"learned_soup": {"steps": 3, "learning_rate": "1e-1"}}
    patch(model_folder, tasks, tmp_path, method=method, thetas=thetas)
    found = [tower(folder) for folder in thetas.values()]
    theta_1 = tower(tmp_path / "theta_1")
    flat = torch.stack([torch.cat([theta[name].flatten() for name in theta_1]) for theta in found])
    target = torch.cat([x.flatten() for x in theta_1.values()])
    coefficients = torch.linalg.lstsq((flat[1:] - flat[0]).T, (target - flat[0])[:, None]).solution.flatten()
    rebuilt = flat[0] + coefficients @ (flat[1:] - flat[0])
    torch.testing.assert_close(rebuilt, target, rtol=0, atol=1e-5)
    assert not torch.allclose(coefficients, torch.full_like(coefficients, 1 / 3), atol=1e-3)
    assert all(0 < c < 1 for c in coefficients)
    [stored] = json.loads((tmp_path / "coefficients.json").read_text()).values()
    assert list(stored) == list(thetas)
    assert sum(stored.values()) == pytest.approx(1)
    assert list(stored.values())[1:] == pytest.approx(coefficients.tolist(), abs=1e-3)


def test_model_stock_needs_no_validation(model_folder, tasks, thetas, tmp_path):
    without = [replace(task, splits=replace(task.splits, validation=None)) for task in tasks]
    result = patch(
        model_folder, without, tmp_path, alphas=[0.0], selection="none", method="model_stock", thetas=thetas
    )
    assert result.alpha == 1.0
    assert_close(tmp_path / "patched", tower(tmp_path / "theta_1"))
    card = (tmp_path / "patched/README.md").read_text()
    assert "the method determines alpha" in card
    assert "1 (Model Stock)" in card


def test_negation_goes_away_from_the_task(model_folder, tasks, thetas, tmp_path):
    result = patch(
        model_folder,
        tasks,
        tmp_path,
        alphas=[-0.5, 0.0, 1.5],
        method="task_arithmetic",
        thetas=thetas,
        extrapolate=True,
        save_variants=True,
    )
    theta_0, found = tower(model_folder), [tower(folder) for folder in thetas.values()]
    expected = {n: x - 0.5 * sum(theta[n] - x for theta in found) for n, x in theta_0.items()}
    assert_close(tmp_path / "variants/alpha--0.50", expected)
    assert result.curve.alphas == (-0.5, 0.0, 1.5)
    Publication.from_run(tmp_path, "me/clip", base_model_id="openai/clip").write_model(-0.5, tmp_path / "pushed")
    assert_close(tmp_path / "pushed", expected)
