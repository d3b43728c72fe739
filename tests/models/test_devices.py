"""Float64 on devices that have it, and on the CPU for those that do not."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import hf_paint
from apple_gpu import AppleGPU, on_apple_gpu
from hf_paint import EMACallback, SWACallback
from hf_paint.adapters.lora_extraction import extract_lora
from hf_paint.merging.fisher import draw_labels
from hf_paint.merging.model_stock import model_stock_alphas
from hf_paint.models.devices import float64_device, to_float64


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Walk:
    """A model with one weight that is somewhere else after every step."""

    def __init__(self, place):
        self.place, self.loaded, self.weight = place, None, None

    def named_parameters(self):
        return [("weight", self.weight)]

    def load_state_dict(self, weights, strict):
        self.loaded = weights["weight"]

    def run(self, callback, folder, device):
        args = SimpleNamespace(load_best_model_at_end=False, output_dir=str(folder), should_save=True, device=device)
        callback.on_train_begin(args, SimpleNamespace(global_step=0), None)
        for step in range(1, 7):
            self.weight = self.place(drawn(3, 4, seed=step))
            callback.on_step_end(args, SimpleNamespace(global_step=step, max_steps=6), None, model=self)
        (folder / "checkpoint-6").mkdir(parents=True)
        callback.save(folder / "checkpoint-6")
        callback.on_train_begin(args, SimpleNamespace(global_step=6), None)
        callback.on_train_end(args, None, None, model=self)
        return self.loaded, load_file(folder / "checkpoint-6" / callback.file_name)["weight"]


@pytest.mark.parametrize("make", [lambda: EMACallback(0.9), lambda: SWACallback(0.3, every=1)], ids=["ema", "swa"])
def test_averages_are_in_float64_everywhere(make, tmp_path):
    cpu = Walk(lambda x: x).run(make(), tmp_path / "cpu", torch.device("cpu"))
    apple = Walk(on_apple_gpu).run(make(), tmp_path / "mps", torch.device("mps"))
    for found, expected in zip(apple, cpu, strict=True):
        assert torch.equal(found, expected)
    assert [x.dtype for x in apple] == [torch.float32, torch.float64]


def test_labels_are_drawn_alike():
    logits, draws = drawn(5, 7), torch.rand(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with AppleGPU():
        found = draw_labels(on_apple_gpu(logits), draws)
    assert found.device.type == "mps"
    assert found.tolist() == draw_labels(logits, draws).tolist()


def test_model_stock_and_lora_extraction(tmp_path):
    theta_0 = {"vision_model.encoder.layers.0.mlp.fc1.weight": drawn(6, 4)}
    thetas = {str(seed): {name: x + 0.1 * drawn(6, 4, seed=seed) for name, x in theta_0.items()} for seed in (1, 2, 3)}
    apple_0, *apples = ({name: on_apple_gpu(x) for name, x in theta.items()} for theta in (theta_0, *thetas.values()))
    assert model_stock_alphas(apple_0, dict(zip(thetas, apples, strict=True))) == model_stock_alphas(theta_0, thetas)
    found = extract_lora(apple_0, apples[0], [1, 4], tmp_path / "mps").kept
    assert found == extract_lora(theta_0, thetas["1"], [1, 4], tmp_path / "cpu").kept


def test_devices_with_float64_keep_their_tensors():
    assert [float64_device(torch.device(name)).type for name in ("cpu", "cuda", "xpu", "mps")] == [
        *("cpu", "cuda", "xpu", "cpu")
    ]
    x = drawn(2)
    assert to_float64(x.double()).dtype == to_float64(x.bfloat16()).dtype == torch.float64
    assert torch.equal(to_float64(x), x.double())


def test_tensors_become_float64_in_one_place():
    """Elsewhere, a conversion would fail on a device without float64, which no machine that runs these tests has."""
    found = []
    for path in Path(hf_paint.__file__).parent.rglob("*.py"):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
            name, given = getattr(call.func, "attr", ""), [ast.unparse(x) for x in call.args]
            if name == "double" or (name in ("to", "type") and "torch.float64" in given):
                found.append(path.name)
    assert found == ["devices.py"]
