"""Checks for training with sharded weights (FSDP2, DeepSpeed) that reject settings that would lose the weights."""

from collections.abc import Sequence
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin, parse_flag_from_env
from transformers import TrainerCallback
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from hf_paint.errors import InputError
from hf_paint.merging.averaging import WeightAveraging
from hf_paint.training.training_args import PaintTrainingArguments


UNSHARDED_KEYS = ("train_head", "use_peft", "regularization", "auto_find_batch_size", "push_to_hub")
"""Arguments that require the complete weights on one process."""


def is_sharded(accelerator: Accelerator) -> bool:
    """Return whether the weights or the optimizer state are sharded over processes."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def check_sharding(
    accelerator: Accelerator, args: PaintTrainingArguments, callbacks: Sequence[TrainerCallback] = ()
) -> None:
    """If weights are sharded, check that the arguments, callbacks and launcher settings support this.

    Args:
        accelerator: Accelerator with the launcher settings.
        args: Training arguments.
        callbacks: Training callbacks.

    Raises:
        InputError: If an argument or callback requires the complete weights, or checkpoints would not contain them.
    """
    if args.fsdp or args.deepspeed:
        raise InputError(
            "`fsdp` and `deepspeed` are set by the launcher. Remove them and run `accelerate launch --config_file "
            "recipes/accelerate_configs/fsdp2.yaml`, or use a similar config."
        )
    if not is_sharded(accelerator):
        return
    incompatible = [key for key in UNSHARDED_KEYS if getattr(args, key)]
    if incompatible:
        raise InputError(f"`{incompatible[0]}` does not support sharded weights (FSDP, DeepSpeed). Remove it.")
    if any(isinstance(callback, WeightAveraging) for callback in callbacks):
        raise InputError("The methods `ema` and `swa` do not support sharded weights (FSDP, DeepSpeed).")
    if accelerator.distributed_type == DistributedType.FSDP:
        _check_fsdp(accelerator.state.fsdp_plugin)
    else:
        _check_deepspeed(accelerator.state.deepspeed_plugin, accelerator.mixed_precision)


def load_complete_models(accelerator: Accelerator) -> None:
    """Make every process load complete models from now on.

    As long as a DeepSpeed ZeRO-3 config is registered with transformers, every model is sharded as it is loaded,
    regardless of `zero3_init_flag`. This function removes the config from the global state of transformers.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        unset_hf_deepspeed_config()


def check_launch(args: PaintTrainingArguments) -> None:
    """Check the launcher settings before any file is read, and prepare to load complete models.

    Raises:
        InputError: As in `check_sharding`, which PaintTrainer calls again.
    """
    if any(parse_flag_from_env(f"ACCELERATE_USE_{name}") for name in ("FSDP", "DEEPSPEED")):
        accelerator = Accelerator(cpu=args.use_cpu, mixed_precision=args.mixed_precision)
        check_sharding(accelerator, args)
        load_complete_models(accelerator)


def check_checkpoint(accelerator: Accelerator, checkpoint: str) -> None:
    """Check that a checkpoint is sharded like this training; otherwise the optimizer would silently start over.

    Args:
        accelerator: Accelerator of the resumed training.
        checkpoint: Path to the checkpoint folder.

    Raises:
        InputError: If the checkpoint has no optimizer state in the format of this training.
    """
    if not any(Path(checkpoint).glob(_optimizer_files(accelerator))):
        raise InputError(
            f"{checkpoint} has no optimizer state that this training can resume from. Unsharded training, FSDP2, "
            "ZeRO-2 and ZeRO-3 use different formats. Launch the run as before, or choose another output_dir."
        )


def _optimizer_files(accelerator: Accelerator) -> str:
    """Return a glob pattern for the optimizer state that this kind of training saves."""
    if accelerator.distributed_type == DistributedType.FSDP:
        return "optimizer.bin"
    if accelerator.distributed_type != DistributedType.DEEPSPEED:
        return "optimizer.pt"
    complete = accelerator.state.deepspeed_plugin.zero_stage < 3
    return f"global_step*/{'mp' if complete else 'zero_pp'}_rank_*_model_states.pt"


def _check_fsdp(plugin: FullyShardedDataParallelPlugin) -> None:
    if plugin.fsdp_version != 2:
        raise InputError(f"FSDP version {plugin.fsdp_version} is not supported. Set `fsdp_version: 2`.")
    if plugin.state_dict_type.name != "FULL_STATE_DICT":
        raise InputError(
            f"With `fsdp_state_dict_type: {plugin.state_dict_type.name}`, checkpoints would not contain the complete "
            "weights, so the trained weights would be lost. Set `fsdp_state_dict_type: FULL_STATE_DICT`."
        )
    if plugin.cpu_ram_efficient_loading:
        raise InputError(
            "With `fsdp_cpu_ram_efficient_loading: true`, only one process would read the base model, but every "
            "process needs its text tower. Set it to false."
        )


def _check_deepspeed(plugin: DeepSpeedPlugin, mixed_precision: str) -> None:
    replaced = [key for key in ("optimizer", "scheduler") if key in plugin.deepspeed_config]
    if replaced:
        raise InputError(f"The `{replaced[0]}` in the DeepSpeed config would replace the recipe's. Remove it.")
    zero = plugin.deepspeed_config.get("zero_optimization", {})
    if zero.get("stage") == 3 and not zero.get("stage3_gather_16bit_weights_on_model_save"):
        raise InputError(
            "Without `stage3_gather_16bit_weights_on_model_save`, ZeRO-3 saves only shards, so the trained weights "
            "would be lost. Set it to true (`zero3_save_16bit_model: true` in an accelerate config)."
        )
    if zero.get("stage") == 3 and plugin.zero3_init_flag:
        raise InputError(
            "With `zero3_init_flag: true`, no process would read the complete base model, but every process "
            "needs its text tower. Set it to false."
        )
    if mixed_precision != "no":
        raise InputError(
            f"DeepSpeed in {mixed_precision} keeps the weights in {mixed_precision}, which would round theta_1. Set "
            "`mixed_precision: no`, or use FSDP2, which keeps the weights in float32."
        )
