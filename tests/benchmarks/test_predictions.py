"""Predictions for the GPU check, compared with written-out numbers."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch


sys.path.insert(0, str(Path(__file__).parent))
with patch.dict(os.environ):  # the benchmarks run in a separate environment
    import counted
    import simulation
    import towers
    from machines import PRESETS, Machine, Plan


def test_work_is_counted_and_grows_with_its_inputs():
    x, y = torch.randn(10, 10), torch.randn(10, 10)
    found = counted.counted(lambda: (x.view(100) + y.flatten()).sum())
    assert found == counted.Counted(2, 4 * (3 * 100 + 100 + 1))  # views move nothing
    machine = Machine(name="", memory=1, matrix=1, elementwise=1e3, disk=1, network=1, decoding=1)
    assert found.seconds(machine, larger=5, more=3) == pytest.approx(6 * counted.LAUNCH + 5 * found.num_bytes / 1e3)


def test_prompts_and_pictures_are_limited_by_the_slower_part():
    config = towers.clip_config("ViT-B/32")
    slow = replace(PRESETS[0], tokenizing=10.0)
    assert simulation.prompt_rate(config, slow, 12, bf16=False) == 10
    fast = replace(PRESETS[0], tokenizing=1e9, elementwise=1e30, matrix_fp32=1e12)
    products = 4 * 512**2 + 2 * 512 * 2048  # attention and MLP of one of twelve layers
    assert simulation.prompt_rate(config, fast, 12, bf16=False) == pytest.approx(1e12 / (24 * 12 * products), rel=0.01)
    assert simulation.feeding_rate(5000, PRESETS[0], workers=0) == 370
    assert simulation.feeding_rate(5000, PRESETS[0], workers=15) == 5000
    assert simulation.feeding_rate(9000, PRESETS[0], workers=15) == 15 * 370
    assert simulation.feeding_rate(9000, PRESETS[0], workers=None) == 9000


def test_training_with_decoded_images_does_not_wait_for_decoding():
    config, plan = towers.clip_config("ViT-B/32"), Plan(compiled=True)
    slow = replace(PRESETS[0], decoding=1.0)
    rate = simulation.training_rate(config, slow, plan, 512)
    assert rate == simulation.training_rate(config, PRESETS[0], plan, 512) > PRESETS[0].decoding
