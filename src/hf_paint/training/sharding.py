"""Training whose weights are spread over processes (FSDP, DeepSpeed): what would lose them is refused beforehand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import DistributedType, parse_flag_from_env
from transformers import TrainerCallback
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from hf_paint.errors import InputError
from hf_paint.merging.averaging import WeightAveraging
from hf_paint.training.training_args import PaintTrainingArguments


def is_sharded(accelerator: Accelerator) -> bool:
    """Say whether a training spreads its weights, or the state of its optimizer, over the processes."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def check_sharding(
    accelerator: Accelerator, args: PaintTrainingArguments, callbacks: Sequence[TrainerCallback] = ()
) -> None:
    """Refuse what does not go with sharded weights, and settings under which no checkpoint would hold them.

    Models that are loaded afterwards stay whole on every process.

    Args:
        accelerator: Knows what the launcher was told.
        args: The training arguments.
        callbacks: The callbacks of the training.

    Raises:
        InputError: If there is any of it.
    """
    if args.fsdp or args.deepspeed:
        raise InputError(
            "`fsdp` and `deepspeed` are up to the launcher: leave them out, and use `accelerate launch --config_file "
            "recipes/accelerate_configs/fsdp2.yaml` or a file like it."
        )
    if not is_sharded(accelerator):
        return
    given = [name for name in ("train_head", "use_peft", "auto_find_batch_size", "push_to_hub") if getattr(args, name)]
    if given:
        raise InputError(f"`{given[0]}` does not go with sharded weights (FSDP, DeepSpeed): leave it out.")
    if any(isinstance(callback, WeightAveraging) for callback in callbacks):
        raise InputError("Averages along a training do not go with sharded weights (FSDP, DeepSpeed).")
    if accelerator.distributed_type == DistributedType.FSDP:
        _check_fsdp(accelerator.state.fsdp_plugin)
    else:
        unset_hf_deepspeed_config()  # or ZeRO-3 would share out every model that is loaded, `zero3_init_flag` or not
        _check_deepspeed(accelerator.state.deepspeed_plugin, accelerator.mixed_precision)


def check_launch(args: PaintTrainingArguments) -> None:
    """Refuse settings of the launcher under which no checkpoint would hold the weights, before anything is read.

    Raises:
        InputError: As `check_sharding`, which PaintTrainer calls once more.
    """
    if any(parse_flag_from_env(f"ACCELERATE_USE_{name}") for name in ("FSDP", "DEEPSPEED")):
        check_sharding(Accelerator(cpu=args.use_cpu, mixed_precision=args.mixed_precision), args)


def check_checkpoint(accelerator: Accelerator, checkpoint: str) -> None:
    """Refuse a checkpoint of a training that spread its weights in another way: the optimizer would start anew.

    Args:
        accelerator: That of the training which is to go on.
        checkpoint: The folder of the checkpoint.

    Raises:
        InputError: If it holds no optimizer of this kind.
    """
    if not any(Path(checkpoint).glob(_optimizer_of(accelerator))):
        raise InputError(
            f"{checkpoint} holds no optimizer that could go on here: those of whole weights, FSDP2, ZeRO-2 and ZeRO-3 "
            "are saved in different ways. Launch the run as before, or choose another output_dir."
        )


def _optimizer_of(accelerator: Accelerator) -> str:
    """Return a pattern of file names that checkpoints of this kind of training hold, and of no other."""
    if accelerator.distributed_type == DistributedType.FSDP:
        return "optimizer.bin"
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return "optimizer.pt"
    whole = accelerator.state.deepspeed_plugin.zero_stage < 3
    return f"global_step*/{'mp' if whole else 'zero_pp'}_rank_*_model_states.pt"


def _check_fsdp(plugin: Any) -> None:
    if plugin.fsdp_version != 2:
        raise InputError(f"FSDP of version {plugin.fsdp_version} is not supported: set `fsdp_version: 2`.")
    if plugin.state_dict_type.name != "FULL_STATE_DICT":
        raise InputError(
            f"With `fsdp_state_dict_type: {plugin.state_dict_type.name}` no checkpoint would hold the weights of the "
            "model, and the training would be lost: set `fsdp_state_dict_type: FULL_STATE_DICT`."
        )
    if plugin.cpu_ram_efficient_loading:
        raise InputError(
            "With `fsdp_cpu_ram_efficient_loading: true` one process alone would read the base, of which each needs "
            "the text tower: set it to false."
        )


def _check_deepspeed(plugin: Any, mixed_precision: str) -> None:
    own = [key for key in ("optimizer", "scheduler") if key in plugin.deepspeed_config]
    if own:
        raise InputError(f"The `{own[0]}` of the DeepSpeed config would replace that of the recipe: leave it out.")
    zero = plugin.deepspeed_config.get("zero_optimization", {})
    if zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise InputError(
            "Without `stage3_gather_16bit_weights_on_model_save` ZeRO-3 saves shards alone, and the training would be "
            "lost: set it to true (`zero3_save_16bit_model: true` in a config of accelerate)."
        )
    if zero.get("stage") == 3 and plugin.zero3_init_flag:
        raise InputError(
            "With `zero3_init_flag: true` no process would read the whole base, of which each needs the text tower: "
            "set it to false."
        )
    if mixed_precision != "no":
        raise InputError(
            f"DeepSpeed in {mixed_precision} keeps the weights in {mixed_precision}, which would round theta_1: set "
            "`mixed_precision: no`, or use FSDP2, which keeps them in float32."
        )
