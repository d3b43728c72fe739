"""The accelerate configurations of the recipes, and the options refused with sharded weights."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env

from hf_paint import InputError, PaintTrainer, PaintTrainingArguments
from hf_paint.merging.averaging import EMACallback
from hf_paint.training.sharding import check_checkpoint, check_sharding


CONFIGS = Path(__file__).parents[2] / "recipes" / "accelerate_configs"


@pytest.mark.parametrize(
    ("name", "kind", "num_processes"),
    [
        ("cpu", "MULTI_GPU", 2),
        ("single_gpu", "NO", 1),
        ("multi_gpu", "MULTI_GPU", 8),
        ("fsdp2", "FSDP", 8),
        ("deepspeed_zero2", "DEEPSPEED", 8),
        ("deepspeed_zero3", "DEEPSPEED", 8),
    ],
)
def test_accelerate_reads_every_configuration(name, kind, num_processes):
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert (config.distributed_type, config.num_processes) == (kind, num_processes)


def test_every_configuration_is_tested():
    assert len(list(CONFIGS.glob("*.yaml"))) == 7


def launched(name, monkeypatch):
    """Return the plugin that accelerate creates for a configuration."""
    if name.startswith("deepspeed"):  # its plugin needs the package
        config = load_config_from_file(str(CONFIGS / f"{name}.yaml")).deepspeed_config
        whole = config.get("zero3_save_16bit_model", False)
        zero = {"stage": config["zero_stage"], "stage3_gather_16bit_weights_on_model_save": whole}
        return SimpleNamespace(deepspeed_config={"zero_optimization": zero}, zero3_init_flag=config["zero3_init_flag"])
    arguments = launch_command_parser().parse_args(["--config_file", str(CONFIGS / f"{name}.yaml"), "patch.py"])
    for key, value in prepare_multi_gpu_env(_validate_launch_command(arguments)[0]).items():
        if key.startswith(("FSDP_", "ACCELERATE_")):
            monkeypatch.setenv(key, value)
    return FullyShardedDataParallelPlugin()


def accelerator(plugin, mixed_precision="no"):
    """Return a stand-in for the accelerator; neither kind of sharding starts on a CPU."""
    fsdp = isinstance(plugin, FullyShardedDataParallelPlugin)
    kind = DistributedType.FSDP if fsdp else DistributedType.DEEPSPEED
    state = SimpleNamespace(**{"fsdp_plugin" if fsdp else "deepspeed_plugin": plugin})
    return SimpleNamespace(distributed_type=kind, state=state, mixed_precision=mixed_precision)


def arguments(folder, **keys):
    return PaintTrainingArguments(output_dir=str(folder), use_cpu=True, **keys)


@pytest.mark.parametrize("name", ["fsdp2", "deepspeed_zero2", "deepspeed_zero3"])
def test_our_configurations_save_whole_models(name, monkeypatch, tmp_path):
    check_sharding(accelerator(launched(name, monkeypatch)), arguments(tmp_path))


def test_fsdp_settings_that_would_lose_the_weights_are_refused(monkeypatch, tmp_path):
    plugin = launched("fsdp2", monkeypatch)
    plugin.set_state_dict_type("SHARDED_STATE_DICT")
    with pytest.raises(InputError, match=r"checkpoints would not contain the complete weights.*: FULL_STATE_DICT`"):
        check_sharding(accelerator(plugin), arguments(tmp_path))
    plugin = launched("fsdp2", monkeypatch)
    plugin.cpu_ram_efficient_loading = True
    with pytest.raises(InputError, match="only one process would read the base"):
        check_sharding(accelerator(plugin), arguments(tmp_path))
    plugin.fsdp_version = 1
    with pytest.raises(InputError, match="Set `fsdp_version: 2`"):
        check_sharding(accelerator(plugin), arguments(tmp_path))


def test_deepspeed_settings_that_would_lose_the_weights_are_refused(monkeypatch, tmp_path):
    plugin = launched("deepspeed_zero3", monkeypatch)
    with pytest.raises(InputError, match="DeepSpeed in bf16 .* would round theta_1"):
        check_sharding(accelerator(plugin, "bf16"), arguments(tmp_path))
    plugin.zero3_init_flag = True
    with pytest.raises(InputError, match="no process would read the complete base"):
        check_sharding(accelerator(plugin), arguments(tmp_path))
    plugin.deepspeed_config["scheduler"] = {"type": "WarmupLR"}
    with pytest.raises(InputError, match="`scheduler` in the DeepSpeed config would replace the recipe.s"):
        check_sharding(accelerator(plugin), arguments(tmp_path))
    del plugin.deepspeed_config["scheduler"]
    del plugin.deepspeed_config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
    with pytest.raises(InputError, match="ZeRO-3 saves only shards, so the trained weights would be lost"):
        check_sharding(accelerator(plugin), arguments(tmp_path))


def test_what_does_not_go_with_sharded_weights_is_refused(monkeypatch, tmp_path):
    sharded = accelerator(launched("fsdp2", monkeypatch))
    for key, value in {"train_head": True, "auto_find_batch_size": True, "regularization": {"ldifs": 1}}.items():
        with pytest.raises(InputError, match=f"`{key}` does not support sharded weights"):
            check_sharding(sharded, arguments(tmp_path, **{key: value}))
    with pytest.raises(InputError, match="The methods `ema` and `swa`"):
        check_sharding(sharded, arguments(tmp_path), [EMACallback(decay=0.9)])


def test_the_trainer_stops_before_the_training(model, processor, task, monkeypatch, tmp_path):
    create, plugin = PaintTrainer.create_accelerator_and_postprocess, launched("fsdp2", monkeypatch)
    plugin.set_state_dict_type("SHARDED_STATE_DICT")

    def pretend(trainer):
        create(trainer)
        for key, value in {"distributed_type": DistributedType.FSDP, "fsdp_plugin": plugin}.items():
            monkeypatch.setitem(trainer.accelerator.state._shared_state, key, value)

    monkeypatch.setattr(PaintTrainer, "create_accelerator_and_postprocess", pretend)
    with pytest.raises(InputError, match="checkpoints would not contain the complete weights"):
        PaintTrainer(model, arguments(tmp_path / "run"), train_task=task, processing_class=processor)


def test_a_checkpoint_of_another_kind_of_training_is_refused(monkeypatch, tmp_path):
    """Transformers would silently continue from it, with a new optimizer and schedule."""
    (tmp_path / "optimizer.pt").touch()
    check_checkpoint(SimpleNamespace(distributed_type=DistributedType.NO), str(tmp_path))
    with pytest.raises(InputError, match="has no optimizer state that this training can resume from"):
        check_checkpoint(accelerator(launched("fsdp2", monkeypatch)), str(tmp_path))


def test_keys_of_the_launcher_are_refused_in_a_recipe(tmp_path):
    args = arguments(tmp_path)
    args.fsdp = True
    with pytest.raises(InputError, match="`fsdp` and `deepspeed` are set by the launcher"):
        check_sharding(SimpleNamespace(distributed_type=DistributedType.NO), args)
