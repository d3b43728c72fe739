"""Run recipes/patch.py for several recipes, one after the other, in the same processes.

    accelerate launch ... patch_each.py [--sharded] RECIPE...

`--sharded` makes accelerate treat the processes as GPUs when it decides about FSDP: on CPUs it would silently run
plain data parallelism. FSDP2 itself works over gloo. ZeRO-3 also shards small tensors, which it would
otherwise leave whole.

Plots are blank, and reports are written without Vega: neither depends on the number of processes.
"""

import os
import runpy
import sys
from pathlib import Path

import pytest
from accelerate import Accelerator, PartialState, accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DeepSpeedPlugin, DistributedType

from blank_plots import blank_plots


PATCH = Path(__file__).parents[2] / "recipes" / "patch.py"
initialize, shard = AcceleratorState.__init__, accelerator.fsdp2_prepare_model
read_config, start_engine = DeepSpeedPlugin.__post_init__, Accelerator._prepare_deepspeed


def initialize_sharded(self, *args, **kwargs):
    if PartialState(cpu=True).distributed_type == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    initialize(self, *args, **kwargs)


def shard_and_count(*args):
    model = shard(*args)
    own = sum(parameter.to_local().numel() for parameter in model.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    print(f"process {PartialState().process_index} holds {own / total:.1f} of the parameters", flush=True)
    return model


def read_config_for_small_models(plugin):
    read_config(plugin)
    plugin.deepspeed_config["zero_optimization"]["stage3_param_persistence_threshold"] = 0


def start_engine_and_count(*args):
    prepared = start_engine(*args)
    if len(prepared) == 2:  # or else it is a dataloader
        engine = prepared[0]
        total = sum(getattr(parameter, "ds_numel", parameter.numel()) for parameter in engine.module.parameters())
        own = sum(getattr(parameter, "ds_tensor", parameter).numel() for parameter in engine.module.parameters())
        flat = "fp32_partitioned_groups_flat", "single_partition_of_fp32_groups"  # of ZeRO-3, of ZeRO-2
        stepped = sum(x.numel() for name in flat for x in getattr(engine.optimizer, name, ()))
        shares = f"{own / total:.1f} of the parameters, {stepped / total:.1f} of the optimizer"
        print(f"process {PartialState().process_index} holds {shares}", flush=True)
    return prepared


def main(recipes):
    if recipes[0] == "--sharded":
        recipes = recipes[1:]
        if "ACCELERATE_USE_FSDP" in os.environ:
            AcceleratorState.__init__, accelerator.fsdp2_prepare_model = initialize_sharded, shard_and_count
        else:
            DeepSpeedPlugin.__post_init__ = read_config_for_small_models
            Accelerator._prepare_deepspeed = start_engine_and_count
    patch = pytest.MonkeyPatch()
    blank_plots(patch)
    patch.setattr("hf_paint.report.page._vega", lambda: ("sha256-", ""))
    for recipe in recipes:
        sys.argv = [str(PATCH), "--config", recipe]
        try:
            runpy.run_path(str(PATCH), run_name="__main__")
        except SystemExit as exit_:
            if exit_.code:
                raise
    state = PartialState()
    print(f"process {state.process_index} of {state.num_processes}: {state.distributed_type}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
