"""How often merges read and check the tensors of stored models: once each, or more often where they need passes."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from hf_paint import InputError, LazyWeights, ties
from hf_paint.merging.registry import METHODS, read_method
from hf_paint.weights import finite


PASSES = {"ties": 3, "model_stock": 2}
"""They measure all models first: how large the changes are, in two steps of 16 bits, or the angles between them."""
ALONE = SimpleNamespace(device=torch.device("cpu"))
"""What a run provides to a merge that measures nothing on images."""


def write(folder, seed):
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    shapes = {"matrix": (6, 5), "bias": (5,), "kernel": (4, 3, 2, 2)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return LazyWeights(folder)


def merges_of_weights_alone():
    return [name for name, method in METHODS.items() if method.cheap or name == "model_stock"]


@pytest.mark.parametrize("name", merges_of_weights_alone())
def test_each_tensor_is_read_and_checked_once(name, tmp_path, monkeypatch):
    theta_0, *thetas = (write(tmp_path / str(seed), seed) for seed in range(4))
    reads, checks, read, is_finite = Counter(), Counter(), LazyWeights.__getitem__, finite.is_finite

    def counted_read(weights, key):
        reads[id(weights), key] += 1
        return read(weights, key)

    def counted_check(x):
        checks[tuple(x.flatten().tolist())] += 1
        return is_finite(x)

    monkeypatch.setattr(LazyWeights, "__getitem__", counted_read)
    monkeypatch.setattr(finite, "is_finite", counted_check)
    options = {"density": 0.9} if name == "dare" else {}  # so that no tensor stays that of theta_0
    read_method({name: options}).merge(theta_0, dict(zip("abc", thetas, strict=True)), ALONE)
    counts = {key: count for key, count in reads.items() if key[0] in map(id, thetas)}
    assert len(counts) == 3 * 3
    assert set(counts.values()) == {PASSES.get(name, 1)}
    assert max(checks.values()) == 1


def test_models_on_disk_are_compared_by_their_headers(tmp_path, monkeypatch):
    one, other = write(tmp_path / "one", 0), write(tmp_path / "other", 1)
    (tmp_path / "half").mkdir()
    save_file({name: x.half() for name, x in other.items()}, tmp_path / "half" / "model.safetensors")
    half, in_memory = LazyWeights(tmp_path / "half"), dict(other.items())
    read_method("uniform_soup").merge({}, {"one": one, "memory": in_memory}, ALONE)
    monkeypatch.setattr(LazyWeights, "__getitem__", None)
    with pytest.raises(InputError, match=r"3 tensors differ in dtype: bias \(float32 and float16\)"):
        read_method("task_arithmetic").merge(one, {"half": half}, ALONE)


def test_ties_ranks_float64_on_disk_as_in_memory(tmp_path):
    """The kept entries differ from the dropped ones by less than float32 can tell."""
    values = 1 + 1e-12 * torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theta_0, theta = {"w": torch.zeros(1000, dtype=torch.float64)}, {"w": values}
    for name, weights in {"theta_0": theta_0, "theta": theta}.items():
        (tmp_path / name).mkdir()
        save_file(weights, tmp_path / name / "model.safetensors")
    merged = ties(LazyWeights(tmp_path / "theta_0"), {"a": LazyWeights(tmp_path / "theta")}, density=0.1)["w"]
    assert torch.equal(merged, torch.where(values >= values.sort().values[-100], values, 0))
