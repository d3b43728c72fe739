"""Training with weights sharded over processes (FSDP2, DeepSpeed), without settings that would lose the weights."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin, parse_flag_from_env
from transformers import TrainerCallback
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from hf_paint.errors import InputError
from hf_paint.merging.averaging import WeightAveraging
from hf_paint.training.training_args import PaintTrainingArguments


UNSHARDED_KEYS = ("train_head", "use_peft", "auto_find_batch_size", "push_to_hub")
"""Arguments that need the complete weights on one process."""


def is_sharded(accelerator: Accelerator) -> bool:
    """Return whether weights or optimizer state are sharded over processes."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def check_sharding(
    accelerator: Accelerator, args: PaintTrainingArguments, callbacks: Sequence[TrainerCallback] = ()
) -> None:
    """Check that arguments, callbacks and launcher settings work with sharded weights, if weights are sharded.

    Args:
        accelerator: The accelerator, which holds the settings of the launcher.
        args: The training arguments.
        callbacks: The callbacks of the training.

    Raises:
        InputError: If an argument or a callback needs complete weights, or no checkpoint would contain the weights.
    """
    if args.fsdp or args.deepspeed:
        raise InputError(
            "`fsdp` and `deepspeed` are set by the launcher: remove them, and use `accelerate launch --config_file "
            "recipes/accelerate_configs/fsdp2.yaml` or a similar file."
        )
    if not is_sharded(accelerator):
        return
    incompatible = [key for key in UNSHARDED_KEYS if getattr(args, key)]
    if incompatible:
        raise InputError(f"`{incompatible[0]}` does not support sharded weights (FSDP, DeepSpeed): remove it.")
    if any(isinstance(callback, WeightAveraging) for callback in callbacks):
        raise InputError("The averages `ema` and `swa` do not support sharded weights (FSDP, DeepSpeed).")
    if accelerator.distributed_type == DistributedType.FSDP:
        _check_fsdp(accelerator.state.fsdp_plugin)
    else:
        _check_deepspeed(accelerator.state.deepspeed_plugin, accelerator.mixed_precision)


def load_complete_models(accelerator: Accelerator) -> None:
    """Load all later models completely on every process.

    While transformers knows the DeepSpeed config, ZeRO-3 shards every model that it loads, whatever `zero3_init_flag`
    is. This changes global state of transformers.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        unset_hf_deepspeed_config()


def check_launch(args: PaintTrainingArguments) -> None:
    """Check the settings of the launcher before anything is read, and prepare for loading complete models.

    Raises:
        InputError: As `check_sharding`, which PaintTrainer calls again.
    """
    if any(parse_flag_from_env(f"ACCELERATE_USE_{name}") for name in ("FSDP", "DEEPSPEED")):
        accelerator = Accelerator(cpu=args.use_cpu, mixed_precision=args.mixed_precision)
        check_sharding(accelerator, args)
        load_complete_models(accelerator)


def check_checkpoint(accelerator: Accelerator, checkpoint: str) -> None:
    """Check that a checkpoint was sharded as this training is; otherwise the optimizer would silently start over.

    Args:
        accelerator: The accelerator of the training that resumes.
        checkpoint: The folder of the checkpoint.

    Raises:
        InputError: If the checkpoint has no optimizer state of this kind.
    """
    if not any(Path(checkpoint).glob(_optimizer_files(accelerator))):
        raise InputError(
            f"{checkpoint} has no optimizer state that this training can resume from: complete weights, FSDP2, ZeRO-2 "
            "and ZeRO-3 are saved in different formats. Launch the run as before, or choose another output_dir."
        )


def _optimizer_files(accelerator: Accelerator) -> str:
    """Return a glob pattern that matches only checkpoints of this kind of training."""
    if accelerator.distributed_type == DistributedType.FSDP:
        return "optimizer.bin"
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return "optimizer.pt"
    complete = accelerator.state.deepspeed_plugin.zero_stage < 3
    return f"global_step*/{'mp' if complete else 'zero_pp'}_rank_*_model_states.pt"


def _check_fsdp(plugin: FullyShardedDataParallelPlugin) -> None:
    if plugin.fsdp_version != 2:
        raise InputError(f"FSDP version {plugin.fsdp_version} is not supported: set `fsdp_version: 2`.")
    if plugin.state_dict_type.name != "FULL_STATE_DICT":
        raise InputError(
            f"With `fsdp_state_dict_type: {plugin.state_dict_type.name}`, checkpoints would not contain the complete "
            "weights, and the training would be lost: set `fsdp_state_dict_type: FULL_STATE_DICT`."
        )
    if plugin.cpu_ram_efficient_loading:
        raise InputError(
            "With `fsdp_cpu_ram_efficient_loading: true`, only one process would read the base, and all of them need "
            "its text tower: set it to false."
        )


def _check_deepspeed(plugin: DeepSpeedPlugin, mixed_precision: str) -> None:
    replaced = [key for key in ("optimizer", "scheduler") if key in plugin.deepspeed_config]
    if replaced:
        raise InputError(f"The `{replaced[0]}` of the DeepSpeed config would replace the recipe's: remove it.")
    zero = plugin.deepspeed_config.get("zero_optimization", {})
    if zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise InputError(
            "Without `stage3_gather_16bit_weights_on_model_save`, ZeRO-3 saves only shards, and the training would be "
            "lost: set it to true (`zero3_save_16bit_model: true` in an accelerate config)."
        )
    if zero.get("stage") == 3 and plugin.zero3_init_flag:
        raise InputError(
            "With `zero3_init_flag: true`, no process would read the complete base, and all of them need its text "
            "tower: set it to false."
        )
    if mixed_precision != "no":
        raise InputError(
            f"DeepSpeed in {mixed_precision} keeps the weights in {mixed_precision}, which would round theta_1: set "
            "`mixed_precision: no`, or use FSDP2, which keeps them in float32."
        )
