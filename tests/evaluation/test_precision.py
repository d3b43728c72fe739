from copy import deepcopy

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from hf_paint import evaluate_tasks, prepare_task
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.precision import PrecisionCheck, compare_precisions
from hf_paint.models.towers import image_tower


def check(**keys):
    return PrecisionCheck(**{"num_images": 512, "agreement": 1.0, "accuracy_difference": 0.0, "speedup": 4.0} | keys)


@pytest.mark.parametrize(
    ("found", "precision"),
    [
        ({}, "bf16"),
        ({"agreement": 0.989}, "fp32"),
        ({"accuracy_difference": 0.006}, "fp32"),
        ({"speedup": 1.0}, "fp32"),
    ],
)
def test_bf16_needs_agreement_and_speed(found, precision):
    assert check(**found).precision == precision
    assert f"Evaluating in {precision}." in str(check(**found))


def test_comparison_equals_both_written_out(model, processor, task):
    prepared = prepare_task(task, model, processor, splits=("test",))
    pixels = prepared.transform.normalize(torch.from_numpy(prepared.images["test"].pixels.copy()))
    projection = model.visual_projection.weight.detach().clone()

    def predictions():
        half = deepcopy(image_tower(model)).bfloat16()
        in_bf16 = half(pixel_values=pixels.bfloat16()).image_embeds.float()
        in_fp32 = image_tower(model)(pixel_values=pixels).image_embeds
        return prepared.head(in_fp32).argmax(-1), prepared.head(in_bf16).argmax(-1)

    with torch.no_grad():  # increasingly similar images, until their differences are lost in bfloat16
        for scale in (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005):
            model.visual_projection.weight.copy_(projection * scale + 1.0)
            fp32, bf16 = predictions()
            if not torch.equal(fp32, bf16):
                break
    found = compare_precisions([image_tower(model)], [prepared], Evaluator(Accelerator(cpu=True)))
    labels = prepared.images["test"].labels
    assert found.num_images == 40
    assert found.agreement < 1
    assert found.agreement == pytest.approx(float((fp32 == bf16).float().mean()))
    difference = abs(int((fp32 == labels).sum()) - int((bf16 == labels).sum())) / 40
    assert found.accuracy_difference == pytest.approx(difference)


@pytest.mark.parametrize("slow", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [3, 16, 40, 128])
def test_compiling_is_not_timed(model, processor, task, other_task, monkeypatch, slow, batch_size):
    """A compiler that takes a second on a clock for every new (dtype, shape), and more for one of the dtypes."""
    now, compiled = [0.0], set()
    monkeypatch.setattr("hf_paint.evaluation.precision.time.perf_counter", lambda: now[0])

    def compile_tower(tower, **options):
        forward = tower.forward

        def run(pixel_values):
            key = (id(tower), pixel_values.dtype, pixel_values.shape)
            now[0] += 0.001 if key in compiled else (25.0 if pixel_values.dtype == slow else 1.0)
            compiled.add(key)
            return forward(pixel_values=pixel_values)

        monkeypatch.setattr(tower, "forward", run)

    monkeypatch.setattr("hf_paint.evaluation.evaluator.compile_blocks", compile_tower)
    tasks = [prepare_task(each, model, processor, splits=("test",)) for each in (task, other_task)]
    evaluator = Evaluator(Accelerator(cpu=True), batch_size=batch_size, compile=True)
    found = compare_precisions([image_tower(model)], tasks, evaluator)
    assert compiled
    assert found.speedup == pytest.approx(1.0)
    assert found.precision == "fp32"


def test_a_tower_that_bf16_breaks_is_evaluated_in_fp32(model, processor, task, caplog, monkeypatch):
    predict, in_fp32 = Evaluator.predict, {}

    def rounded(self, tower, prepared, split, *, indices=None):
        """Every tenth prediction differs from fp32, whatever bf16 does on this machine."""
        predictions = predict(self, tower, prepared, split, indices=indices)
        if self.precision == "bf16":
            predictions.predicted[:] = in_fp32[len(predictions.labels)]
            predictions.predicted[::10] = (predictions.predicted[::10] + 1) % 4
        else:
            in_fp32[len(predictions.labels)] = predictions.predicted.copy()
        return predictions

    monkeypatch.setattr(Evaluator, "predict", rounded)
    caplog.set_level("INFO")
    [result] = evaluate_tasks(model, [task], processor=processor, precision="auto")
    assert result.precision == "fp32"
    assert "90.00 % of the predictions agree" in caplog.text
    assert "Evaluating in fp32" in caplog.text


def test_carrier_is_a_copy_that_takes_weights_in_place(model):
    tower = image_tower(model)
    carrier = Evaluator(Accelerator(cpu=True), precision="bf16").carrier(tower)
    assert {tensor.dtype for tensor in carrier.parameters()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in tower.parameters()} == {torch.float32}
    weights = carrier.state_dict()["visual_projection.weight"]
    weights.fill_(2.0)
    assert float(carrier.visual_projection.weight[0, 0].detach()) == 2.0
    assert np.abs(tower.visual_projection.weight.detach().numpy()).max() < 2.0
