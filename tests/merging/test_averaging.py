from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback

from hf_paint import EMACallback, InputError, SWACallback
from hf_paint.weights.layers import IMAGE_TOWER
from training_runs import StopAfter, arguments, losses, train


class Record(TrainerCallback):
    """The weights after each step."""

    def __init__(self):
        self.thetas = []

    def on_step_end(self, args, state, control, model, **kwargs):
        self.thetas.append({name: tensor.double().clone() for name, tensor in model.state_dict().items()})


def written_out_ema(thetas, decays):
    average = {name: torch.zeros_like(tensor) for name, tensor in thetas[0].items()}
    for theta, decay in zip(thetas, decays, strict=True):
        average = {name: decay * average[name] + (1 - decay) * theta[name] for name in theta}
    return average


def written_out_mean(thetas):
    return {name: torch.stack([theta[name] for theta in thetas]).mean(0) for name in thetas[0]}


def growing_decays(decay, gamma, power):
    """The decay of each of eight steps, 0 at the first."""
    return [0.0] + [min(1 - (1 + step / gamma) ** -power, decay) for step in range(1, 8)]


def assert_carries(model, average):
    weights = model.state_dict()
    for name, expected in average.items():
        torch.testing.assert_close(weights[name], expected.float(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("callback", "decays"),
    [
        (EMACallback(0.7), [0] + 7 * [0.7]),
        (EMACallback(0.7, warmup=True), growing_decays(0.7, 1.0, 2 / 3)),
        (EMACallback(0.9, warmup=True, warmup_gamma=3, warmup_power=0.5), growing_decays(0.9, 3, 0.5)),
    ],
)
def test_ema_equals_the_recursion(model, processor, task, tmp_path, callback, decays):
    record = Record()
    train(model, processor, task, tmp_path / "run", callbacks=[record, callback], max_steps=8)
    assert_carries(model, written_out_ema(record.thetas, decays))


@pytest.mark.parametrize(
    ("start", "every", "steps"),
    [(0.5, 1, [4, 5, 6, 7, 8]), (0.5, 2, [4, 6, 8]), (0.3, 2, [3, 5, 7]), (0, 3, [1, 4, 7])],
)
def test_swa_equals_the_mean(model, processor, task, tmp_path, start, every, steps):
    record = Record()
    callbacks = [record, SWACallback(start, every=every)]
    train(model, processor, task, tmp_path / "run", callbacks=callbacks, max_steps=8)
    assert_carries(model, written_out_mean([record.thetas[step - 1] for step in steps]))


def walk(callback, update, steps=9):
    """Return the weights after a callback; a peer gets the same random steps of a layer."""
    layer, generator = torch.nn.Linear(5, 4).double(), torch.Generator().manual_seed(0)
    callback._average = {}
    for step in range(1, steps + 1):
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        callback.on_step_end(None, SimpleNamespace(global_step=step, max_steps=steps), None, model=layer)
        update(layer, step)
    callback.on_train_end(None, None, None, model=layer)
    return layer.state_dict()


def assert_same(weights, peer):
    for name, expected in peer.state_dict().items():
        torch.testing.assert_close(weights[name], expected, rtol=1e-12, atol=1e-12)


def test_the_same_as_torch():
    peer = AveragedModel(torch.nn.Linear(5, 4).double(), multi_avg_fn=get_ema_multi_avg_fn(0.8))
    assert_same(walk(EMACallback(0.8), lambda layer, step: peer.update_parameters(layer)), peer.module)
    peer = AveragedModel(torch.nn.Linear(5, 4).double())
    weights = walk(
        SWACallback(0.4, every=2),
        lambda layer, step: peer.update_parameters(layer) if step in (4, 6, 8) else None,
    )
    assert_same(weights, peer.module)


@pytest.mark.parametrize("warmup", [{}, {"warmup": True}, {"warmup": True, "warmup_gamma": 3, "warmup_power": 0.5}])
def test_the_same_as_timm(warmup):
    """Only if installed: timm depends on torchvision, which makes transformers choose another image processor."""
    model_ema = pytest.importorskip("timm.utils.model_ema")
    options = {"use_warmup" if key == "warmup" else key: value for key, value in warmup.items()}
    peer = model_ema.ModelEmaV3(torch.nn.Linear(5, 4).double(), decay=0.8, **options)
    assert_same(walk(EMACallback(0.8, **warmup), peer.update), peer.module)


@pytest.mark.parametrize("make", [lambda: EMACallback(0.8), lambda: SWACallback(0.3, every=2)], ids=["ema", "swa"])
@pytest.mark.parametrize("step", [2, 7])
def test_resumed_equals_uninterrupted(model, processor, task, tmp_path, make, step):
    """Bit for bit; interrupted before SWA starts, and after."""
    interrupted, resumed = deepcopy(model), deepcopy(model)
    keys = {"max_steps": 12, "save_strategy": "steps", "save_steps": step}
    whole = train(model, processor, task, tmp_path / "whole", callbacks=[make()], **keys)
    train(interrupted, processor, task, tmp_path / "parts", callbacks=[make(), StopAfter(step)], **keys)
    checkpoint = str(tmp_path / "parts" / f"checkpoint-{step}")
    rest = train(resumed, processor, task, tmp_path / "parts", resume=checkpoint, callbacks=[make()], **keys)
    assert losses(rest) == losses(whole)
    weights = resumed.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_training_and_its_checkpoints_are_as_without_an_average(model, processor, task, tmp_path):
    averaged, before = deepcopy(model), deepcopy(model.state_dict())
    keys = {"save_strategy": "steps", "save_steps": 6}
    plain = train(model, processor, task, tmp_path / "plain", **keys)
    trainer = train(averaged, processor, task, tmp_path / "ema", callbacks=[EMACallback(0.5)], **keys)
    assert losses(trainer) == losses(plain)
    names = [name for name in before if name.startswith(IMAGE_TOWER)]
    saved = load_file(tmp_path / "ema" / "checkpoint-6" / "model.safetensors")
    assert all(torch.equal(saved[name], model.state_dict()[name]) for name in names)
    average = load_file(tmp_path / "ema" / "checkpoint-6" / "ema.safetensors")
    assert set(average) == set(names)
    assert all(torch.equal(averaged.state_dict()[name], average[name].float()) for name in names)
    assert all(torch.equal(averaged.state_dict()[n], tensor) for n, tensor in before.items() if n not in names)


def test_a_checkpoint_without_an_average_is_refused(model, processor, task, tmp_path):
    keys = {"save_strategy": "steps", "save_steps": 3}
    train(model, processor, task, tmp_path, **keys)
    with pytest.raises(InputError, match=r"ema.safetensors is missing. A run with weight averaging cannot resume"):
        train(
            model, processor, task, tmp_path, resume=str(tmp_path / "checkpoint-3"), callbacks=[EMACallback()], **keys
        )


def test_no_best_model_beside_an_average(tmp_path):
    keys = {
        "load_best_model_at_end": True,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_strategy": "steps",
        "save_steps": 3,
    }
    with pytest.raises(InputError, match="`load_best_model_at_end` must be False"):
        EMACallback().on_train_begin(arguments(tmp_path, **keys), None, None)


def test_a_slow_average_moves_where_float32_would_stand_still():
    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(1))

    model, callback = Fixed(), EMACallback(0.9999)
    in_float32 = torch.ones(1)
    callback._average = {}
    for step in range(1, 1001):
        callback.on_step_end(None, SimpleNamespace(global_step=step, max_steps=1000), None, model=model)
        in_float32 += (1 - 0.9999) * (model.w.detach() - in_float32)
        with torch.no_grad():
            model.w.fill_(1 + 2**-14)  # from step 2 on
    callback.on_train_end(None, None, None, model=model)
    assert float(in_float32) == 1
    assert float(model.w.detach()) - 1 == pytest.approx(2**-14 * (1 - 0.9999**999), rel=0.02)


@pytest.mark.parametrize(
    "make",
    [lambda: EMACallback(1.0), lambda: EMACallback(-0.1), lambda: SWACallback(1.1), lambda: SWACallback(every=0)],
)
def test_wrong_arguments(make):
    with pytest.raises(InputError, match="must be"):
        make()
