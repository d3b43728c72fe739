"""Run recipes/patch.py for each of several recipes, one after the other in the same processes.

    accelerate launch ... patch_each.py [--sharded] RECIPE...

With `--sharded` the processes are taken for GPUs when accelerate decides about FSDP: on CPUs it would run plain data
parallelism without a word. FSDP2 itself works over gloo.
"""

import runpy
import sys
from pathlib import Path

from accelerate import PartialState, accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType


PATCH = Path(__file__).parents[2] / "recipes" / "patch.py"
initialize, shard = AcceleratorState.__init__, accelerator.fsdp2_prepare_model


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


def main(recipes):
    if recipes[0] == "--sharded":
        AcceleratorState.__init__, accelerator.fsdp2_prepare_model = initialize_sharded, shard_and_count
        recipes = recipes[1:]
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
