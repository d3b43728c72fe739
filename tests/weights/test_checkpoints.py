import json
import shutil
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPProcessor

from hf_paint import InputError, combine, combine_checkpoints, interpolate, interpolate_checkpoints
from hf_paint.cli.main import main
from hf_paint.weights import streaming
from hf_paint.weights.headers import read_checkpoint
from hf_paint.weights.manifest import seal


DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SPECIALS = torch.tensor([0.0, -0.0, 6e-8, -6e-8, 2.0, 1.0, -3e4, 3e4, 1e-40, 0.1])


def weights(dtype=torch.float32, seed=0):
    """Moved, frozen and integer tensors, with special values in the first two."""
    generator = torch.Generator().manual_seed(seed)
    frozen = torch.randn(300, generator=torch.Generator().manual_seed(9))
    frozen[:10] = SPECIALS
    moved = torch.randn(40, 33, generator=generator)
    moved[0, :10], moved[1, :10] = SPECIALS.roll(seed), SPECIALS  # met by other specials, and by themselves
    return {
        "moved": moved.to(dtype),
        "frozen": frozen.to(dtype),
        "scale": torch.tensor(1.0 + seed, dtype=dtype),
        "empty": torch.zeros(0, 3, dtype=dtype),
        "mask": torch.tensor([True, False, True]),
        "ids": torch.arange(77)[None],
    }


def save(folder, theta, *, shards=1):
    folder.mkdir(parents=True)
    if shards == 1:
        save_file(theta, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    names, weight_map = sorted(theta), {}
    cuts = np.linspace(0, len(names), shards + 1).astype(int)
    for number, (begin, end) in enumerate(pairwise(cuts), start=1):
        shard = f"model-{number:05}-of-{shards:05}.safetensors"
        save_file({name: theta[name] for name in names[begin:end]}, folder / shard, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names[begin:end], shard)
    index = {"metadata": {"total_size": sum(x.nbytes for x in theta.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return folder


def load(folder):
    """All tensors of a folder, read with safetensors."""
    return {name: x for path in sorted(folder.glob("*.safetensors")) for name, x in load_file(path).items()}


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def raw(tensor):
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same_bits(result, expected):
    assert result.keys() == expected.keys()
    for name, x in expected.items():
        assert (result[name].dtype, result[name].shape) == (x.dtype, x.shape), name
        a, b = (np.frombuffer(raw(y), f"u{x.itemsize}") for y in (result[name], x))
        assert np.array_equal(a, b), name


@pytest.fixture(params=[7, 1 << 18], ids=["small chunks", "one chunk"])
def chunk(request, monkeypatch):
    """Tensors in many chunks and in one."""
    monkeypatch.setattr(streaming, "CHUNK", request.param)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shards", [(1, 1), (1, 3), (3, 1), (3, 2)])
def test_equals_the_arithmetic_in_memory_bit_for_bit(tmp_path, dtype, shards, chunk):
    theta_0, theta_1 = weights(dtype), weights(dtype, seed=1)
    folders = [save(tmp_path / "0", theta_0, shards=shards[0]), save(tmp_path / "1", theta_1, shards=shards[1])]
    outputs = {alpha: tmp_path / "out" / str(alpha) for alpha in (-0.5, 0.0, 0.1, 0.3, 0.9, 1.0)}
    interpolate_checkpoints(*folders, outputs, extrapolate=True)
    for alpha, folder in outputs.items():
        assert_same_bits(load(folder), interpolate(theta_0, theta_1, alpha, extrapolate=True))
        if alpha != 1:
            assert files(folder).keys() == files(folders[0]).keys()


def test_equals_the_formula_in_float64(tmp_path):
    theta_0, theta_1 = ({"w": torch.randn(999, generator=torch.Generator().manual_seed(seed))} for seed in (0, 1))
    interpolate_checkpoints(save(tmp_path / "0", theta_0), save(tmp_path / "1", theta_1), {0.3: tmp_path / "out"})
    expected = 0.7 * theta_0["w"].double() + 0.3 * theta_1["w"].double()
    torch.testing.assert_close(load(tmp_path / "out")["w"].double(), expected, rtol=0, atol=1e-6)


def test_integers_that_only_one_side_has_are_no_weights(tmp_path):
    """Older CLIP checkpoints contain position ids; newer ones of the same model do not."""
    theta_0, theta_1 = weights(), weights(seed=1)
    expected = interpolate(theta_0, theta_1, 0.3)
    old = save(tmp_path / "old", theta_0)
    new = save(tmp_path / "new", {name: x for name, x in theta_1.items() if name != "ids"})
    interpolate_checkpoints(old, new, {0.3: tmp_path / "onwards"})
    assert_same_bits(load(tmp_path / "onwards"), expected)
    interpolate_checkpoints(new, old, {0.7: tmp_path / "back"})
    del theta_0["ids"], theta_1["ids"]
    assert_same_bits(load(tmp_path / "back"), interpolate(theta_1, theta_0, 0.7))


def test_one_pass_over_many_alphas_is_many_passes(tmp_path, chunk):
    folders = save(tmp_path / "0", weights()), save(tmp_path / "1", weights(seed=1))
    together = {alpha: tmp_path / "together" / str(alpha) for alpha in (0.0, 0.25, 0.5, 0.75)}
    interpolate_checkpoints(*folders, together)
    for alpha, folder in together.items():
        interpolate_checkpoints(*folders, {alpha: tmp_path / "alone" / str(alpha)})
        assert files(folder) == files(tmp_path / "alone" / str(alpha))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_frozen_tensors_keep_their_bytes(tmp_path, dtype, chunk):
    theta_0, theta_1 = weights(dtype), weights(dtype, seed=1)
    outputs = {alpha: tmp_path / str(alpha) for alpha in (0.1, 0.3, 0.7)}
    interpolate_checkpoints(save(tmp_path / "0", theta_0), save(tmp_path / "1", theta_1), outputs)
    for folder in outputs.values():
        for name in ("frozen", "mask", "ids"):
            assert raw(load(folder)[name]) == raw(theta_0[name])


@pytest.mark.parametrize("shards", [(1, 3), (3, 1)])
def test_ends_are_the_files_of_the_ends(tmp_path, shards):
    ends = [save(tmp_path / str(end), weights(seed=end), shards=shards[end]) for end in (0, 1)]
    interpolate_checkpoints(*ends, {0: tmp_path / "a", 1: tmp_path / "b"})
    assert files(tmp_path / "a") == files(ends[0])
    assert files(tmp_path / "b") == files(ends[1])


def test_shards_agree_with_their_index(tmp_path):
    folder = save(tmp_path / "0", weights(), shards=3)
    interpolate_checkpoints(folder, save(tmp_path / "1", weights(seed=1)), {0.5: tmp_path / "out"})
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    for name, shard in index["weight_map"].items():
        with safe_open(tmp_path / "out" / shard, framework="pt") as file:
            assert name in file.keys()  # noqa: SIM118
            assert file.metadata() == {"format": "pt"}
    assert files(tmp_path / "out")["model.safetensors.index.json"] == files(folder)["model.safetensors.index.json"]


@pytest.mark.parametrize("save_dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("stored", [(torch.bfloat16, torch.float32), (torch.float32, torch.float16)], ids=str)
def test_save_dtype_rounds_the_float32_result_once(tmp_path, stored, save_dtype, chunk):
    theta_0, theta_1 = weights(stored[0]), weights(stored[1], seed=1)
    half = weights(min(stored, key=lambda dtype: dtype.itemsize))["frozen"]
    theta_0["frozen"], theta_1["frozen"] = half.to(stored[0]), half.to(stored[1])
    outputs = {alpha: tmp_path / str(alpha) for alpha in (0.0, 0.3, 1.0)}
    folders = save(tmp_path / "0", theta_0), save(tmp_path / "1", theta_1)
    with pytest.raises(InputError, match="stored in different dtypes"):
        interpolate_checkpoints(*folders, outputs)
    interpolate_checkpoints(*folders, outputs, save_dtype=save_dtype)
    dtype = getattr(torch, save_dtype)
    single = [{n: x.float() if x.is_floating_point() else x for n, x in theta.items()} for theta in (theta_0, theta_1)]
    for alpha, folder in outputs.items():
        exact = interpolate(*single, alpha)
        expected = {name: x.to(dtype) if x.is_floating_point() else x for name, x in exact.items()}
        assert_same_bits(load(folder), expected)
        if dtype == stored[0] and alpha < 1:
            assert raw(load(folder)["frozen"]) == raw(theta_0["frozen"])


def test_every_half_precision_rounding(tmp_path):
    """Ties and subnormals: float32 patterns around every bfloat16 and float16 edge."""
    high = np.arange(1 << 16, dtype=np.uint32)
    patterns = np.concatenate([high << 16 | low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0x0FFF, 0x1000, 0x3000)])
    numbers = torch.from_numpy(patterns.view(np.float32))
    for dtype in (torch.bfloat16, torch.float16):
        name = str(dtype).removeprefix("torch.")
        theta = {"w": numbers[numbers.to(dtype).isfinite()]}
        folders = [save(tmp_path / name / end, theta) for end in "01"]
        interpolate_checkpoints(*folders, {0: tmp_path / name}, save_dtype=name)
        assert_same_bits(load(tmp_path / name), {"w": theta["w"].to(dtype)})


def test_combine_equals_the_sum(tmp_path, chunk):
    thetas = {name: weights(seed=seed) for seed, name in enumerate(("base", "a", "b"))}
    folders = {name: save(tmp_path / name, theta) for name, theta in thetas.items()}
    base, base_folder = thetas.pop("base"), folders.pop("base")
    choices = [{"a": 0.5, "b": 0.25}, {"a": 0, "b": 0}, {"a": 0, "b": 1}, {"a": 0, "b": 0.3}, {"b": 1.5, "a": -1}]
    outputs = {tmp_path / f"out-{number}": alphas for number, alphas in enumerate(choices)}
    combine_checkpoints(base_folder, folders, outputs)
    for folder, alphas in outputs.items():
        assert_same_bits(load(folder), combine(base, thetas, alphas))
    start, a, b = (x["moved"][2:].double() for x in (base, thetas["a"], thetas["b"]))
    result = load(tmp_path / "out-0")["moved"][2:].double()
    torch.testing.assert_close(result, start + 0.5 * (a - start) + 0.25 * (b - start), rtol=0, atol=1e-6)
    assert files(tmp_path / "out-2") == files(folders["b"])


def test_the_output_is_a_model(model, model_folder, tmp_path):
    tuned = tmp_path / "tuned"
    for parameter in model.vision_model.parameters():
        parameter.data += 0.01
    model.save_pretrained(tuned)
    base = shutil.copytree(model_folder, tmp_path / "base")
    for name in ("README.md", "optimizer.pt", "trainer_state.json", "training_args.bin", "adapter_config.json"):
        (base / name).write_text("{}")
    interpolate_checkpoints(base, tuned, {0.5: tmp_path / "half"}, save_dtype="bfloat16")
    assert {path.name for path in (tmp_path / "half").iterdir()} == {
        path.name for path in Path(model_folder).iterdir()
    }
    half = CLIPModel.from_pretrained(tmp_path / "half")
    assert half.dtype == torch.bfloat16
    assert half.config.vision_config.dtype == half.config.dtype
    assert CLIPProcessor.from_pretrained(tmp_path / "half").tokenizer("a photo").input_ids
    theta_0 = CLIPModel.from_pretrained(model_folder).state_dict()
    expected = interpolate(theta_0, model.state_dict(), 0.5)
    assert_same_bits(
        half.state_dict(), {name: x.bfloat16() if x.is_floating_point() else x for name, x in expected.items()}
    )


def corrupt(path, change):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def cut(size):
    return lambda path: path.write_bytes(path.read_bytes()[:size])


DAMAGE = {
    "cut data": (cut(-1), "not a complete safetensors file"),
    "cut header": (cut(20), "its header is truncated"),
    "cut length": (cut(3), "its header is truncated"),
    "no JSON": (lambda path: path.write_bytes((9).to_bytes(8, "little") + b"{nonsense"), "unreadable header"),
    "no mapping": (lambda path: path.write_bytes((2).to_bytes(8, "little") + b"[]"), "unreadable header"),
    "dtype": (lambda path: corrupt(path, lambda h: h["moved"].update(dtype="F4")), "dtype F4"),
    "shape": (
        lambda path: corrupt(path, lambda h: h["moved"].update(shape=[40, 32])),
        "'moved' needs 5120 bytes, but has",
    ),
    "overlap": (lambda path: corrupt(path, lambda h: h["frozen"].update(data_offsets=[4, 1204])), "overlaps"),
    "offsets that are no whole numbers": (
        lambda path: corrupt(path, lambda h: h["frozen"].update(data_offsets=[0.0, 1200.0])),
        "expected whole numbers",
    ),
    "deep nesting": (
        lambda path: path.write_bytes((200_000).to_bytes(8, "little") + b"[" * 200_000),
        "unreadable header",
    ),
    "metadata": (lambda path: corrupt(path, lambda h: h.update(__metadata__={"format": 1})), "other than texts"),
    "half a character": (
        lambda path: corrupt(path, lambda h: h.update({"\ud800": h.pop("frozen")})),
        "surrogates not allowed",
    ),
    "no offsets": (lambda path: corrupt(path, lambda h: h["frozen"].pop("data_offsets")), "unreadable header"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_damaged_files_are_named(tmp_path, damage, message):
    folders = save(tmp_path / "0", weights()), save(tmp_path / "1", weights(seed=1))
    damage(folders[1] / "model.safetensors")
    with pytest.raises(InputError, match=message) as error:
        interpolate_checkpoints(*folders, {0.5: tmp_path / "out"})
    assert str(folders[1] / "model.safetensors") in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_header_has_a_bounded_length(tmp_path):
    """A file of a terabyte may claim a header as long; this one has no bytes on the disk."""
    folder = save(tmp_path / "0", weights())
    with (folder / "model.safetensors").open("wb") as file:
        file.write((2**40).to_bytes(8, "little"))
        file.truncate(2**40 + 8)
    tracemalloc.start()
    with pytest.raises(InputError, match="the format allows 100000000"):
        interpolate_checkpoints(folder, folder, {0.5: tmp_path / "out"})
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda index: index["weight_map"].pop("ids"), "does not list the same tensors"),
        (lambda index: index["weight_map"].update(ids="../elsewhere.safetensors"), "a shard is in another folder"),
        (
            lambda index: index["weight_map"].update(ids="gone.safetensors"),
            "lists 'gone.safetensors', which does not exist",
        ),
        (lambda index: index["weight_map"].update(ids="x" * 5000), "no safetensors file"),
        (lambda index: index["weight_map"].update(ids="..\\\\x.safetensors"), "a shard is in another folder"),
        (lambda index: index.update(metadata=[1]), "`metadata` is no mapping"),
        (lambda index: index.pop("weight_map"), "is not a valid safetensors index"),
    ],
)
def test_damaged_indexes_are_named(tmp_path, change, message):
    folders = save(tmp_path / "0", weights(), shards=2), save(tmp_path / "1", weights(seed=1))
    path = folders[0] / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))
    with pytest.raises(InputError, match=message):
        interpolate_checkpoints(*folders, {0.5: tmp_path / "out"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": torch.zeros(1)}, "are only in theta_1: extra"),
        ({"moved": torch.zeros(2, 33)}, "differ in shape: moved"),
        ({"ids": torch.arange(77, dtype=torch.int32)[None]}, "differ in dtype: ids"),
        ({"ids": torch.arange(77)[None] + 1}, "Integer tensor 'ids' differs"),
        (
            {"moved": torch.zeros(40, 33).half()},
            r"'moved' \(F32 and F16\). Set save_dtype to the dtype to save",
        ),
    ],
)
def test_models_that_do_not_fit(tmp_path, change, message):
    folders = save(tmp_path / "0", weights()), save(tmp_path / "1", weights(seed=1) | change)
    with pytest.raises(InputError, match=message):
        interpolate_checkpoints(*folders, {0.5: tmp_path / "out"})
    assert not (tmp_path / "out").exists()


def test_folders_that_are_taken(tmp_path):
    folders = save(tmp_path / "0", weights()), save(tmp_path / "1", weights(seed=1))
    (tmp_path / "link").symlink_to(folders[1])
    (tmp_path / "file").touch()
    out = tmp_path / "out"
    for output in (folders[0], tmp_path / "link", folders[0] / ".." / "1"):
        with pytest.raises(InputError, match="is used twice, as another output or as an input"):
            interpolate_checkpoints(*folders, {0.5: output}, overwrite=True)
    with pytest.raises(InputError, match="another output"):
        interpolate_checkpoints(*folders, {0.3: out, 0.5: out})
    with pytest.raises(InputError, match="is a file"):
        interpolate_checkpoints(*folders, {0.5: tmp_path / "file"})
    save(out, weights(seed=2), shards=2)
    with pytest.raises(InputError, match="already contains a model"):
        interpolate_checkpoints(*folders, {0.5: out})
    seal(out)
    interpolate_checkpoints(*folders, {0.5: out}, overwrite=True)
    assert files(out).keys() == {"model.safetensors"}
    assert_same_bits(load(out), interpolate(weights(), weights(seed=1), 0.5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save_dtype": "int8"}, "save_dtype must be one of float32, bfloat16, float16, got 'int8'"),
        ({}, r"alpha must be"),
    ],
)
def test_bad_options(tmp_path, options, message):
    folder = save(tmp_path / "0", weights())
    with pytest.raises(InputError, match=message):
        interpolate_checkpoints(folder, folder, {0.5 if options else 1.5: tmp_path / "out"}, **options)


def test_a_base_without_safetensors_names_the_conversion(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pytorch_model.bin").touch()
    with pytest.raises(InputError, match="has no safetensors.*To convert the model, run"):
        interpolate_checkpoints(tmp_path / "bin", tmp_path / "bin", {0.5: tmp_path / "out"})


def test_a_failed_run_leaves_the_old_model(tmp_path, monkeypatch):
    folders = save(tmp_path / "0", weights()), save(tmp_path / "1", weights(seed=1))
    out = save(tmp_path / "out", weights(seed=2))
    before = files(out)
    monkeypatch.setattr(streaming, "_write", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        interpolate_checkpoints(*folders, {0.5: out}, overwrite=True)
    assert files(out) == before


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)], capture_output=True, text=True
    )


def test_a_killed_run_leaves_no_model_and_the_next_one_succeeds(tmp_path):
    folders = save(tmp_path / "0", weights()), save(tmp_path / "1", weights(seed=1), shards=2)
    (folders[0] / "config.json").write_text("{}")
    killed = run(
        """
        import os, signal, sys
        from hf_paint import interpolate_checkpoints
        from hf_paint.weights import streaming
        write, streaming.CHUNK, streaming.THREADS = streaming._write, 100, 1
        def write_some(file, values, offset):
            write(file, values, offset)
            if offset > 2000:
                os.kill(os.getpid(), signal.SIGKILL)
        streaming._write = write_some
        interpolate_checkpoints(sys.argv[1], sys.argv[2], {0.5: sys.argv[3]})
        """,
        *folders,
        tmp_path / "out",
    )
    assert killed.returncode == -signal.SIGKILL
    [partial] = (tmp_path / "out").iterdir()
    assert set(files(partial)) == {"config.json", "model.safetensors"}
    interpolate_checkpoints(*folders, {0.5: tmp_path / "out"})
    assert set(files(tmp_path / "out")) == {"config.json", "model.safetensors"}
    assert_same_bits(load(tmp_path / "out"), interpolate(weights(), weights(seed=1), 0.5))


def test_the_command_writes_one_folder_per_alpha(tmp_path, capsys):
    folders = [str(save(tmp_path / str(seed), weights(seed=seed))) for seed in (0, 1)]
    alphas = ["0.3", str(3 * 0.1), "1e-7", "0", "-0.0", "0.3000001"]
    assert main(["interpolate", *folders, "--alphas", *alphas, "--output_dir", str(tmp_path / "out")]) == 0
    names = ["alpha-0.00", "alpha-0.0000001", "alpha-0.30", "alpha-0.3000001"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    clash = ["--alphas", "0.333333", str(1 / 3), "--output_dir", str(tmp_path / "clash")]
    assert main(["interpolate", *folders, *clash]) == 2
    assert "have the same name alpha-0.333333" in capsys.readouterr().err


def test_command(tmp_path, capsys):
    folders = save(tmp_path / "0", weights()), save(tmp_path / "1", weights(seed=1))
    command = ["interpolate", *map(str, folders), "--output_dir", str(tmp_path / "out")]
    assert main([*command, "--alphas", "0", "0.5", "0.125"]) == 0
    names = ["alpha-0.00", "alpha-0.50", "alpha-0.125"]
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out" / name) for name in names]
    assert_same_bits(load(tmp_path / "out" / "alpha-0.50"), interpolate(weights(), weights(seed=1), 0.5))
    for arguments, code, message in [
        (["--alphas", "0.5"], 2, "already contains a model"),
        (["--alphas", "0.5", "--overwrite", "--save_dtype", "float16"], 0, ""),
        (["--alphas", "1.5"], 2, "alpha must be in [0, 1], got 1.5"),
        (["--alphas", "1.5", "--extrapolate"], 0, ""),
        (["--alphas", "half"], 2, "invalid float value"),
        ([], 2, "--alphas"),
    ]:
        assert main([*command, *arguments]) == code
        assert message in capsys.readouterr().err
    assert load(tmp_path / "out" / "alpha-0.50")["moved"].dtype == torch.float16
    assert main(["interpolate", "openai/clip", "x", "--alphas", "1", "--output_dir", str(tmp_path / "new")]) == 2
    assert "'openai/clip' is not a folder. To download a model, run: hf download ID" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_needs_little_memory_and_no_torch(tmp_path):
    for number, name in enumerate(("0", "1")):
        save(tmp_path / name, {"w": torch.randn(50, 1 << 20, generator=torch.Generator().manual_seed(number))})
    finished = run(
        """
        import sys
        from pathlib import Path
        from hf_paint.cli import main
        code = main(["interpolate", *sys.argv[1:3], "--alphas", "0.3", "0.6", "--output_dir", sys.argv[3]])
        heavy = {"torch", "transformers", "huggingface_hub", "safetensors", "pandas"} & set(sys.modules)
        status = Path("/proc/self/status").read_text()  # ru_maxrss counts the process that started this one too
        peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        sys.exit(code or (f"imported {heavy}" if heavy else 0) or (f"{peak} MiB" if peak > 100 else 0))
        """,
        *(tmp_path / name for name in ("0", "1", "out")),
    )
    assert finished.returncode == 0, finished.stderr[-300:]


def test_the_tensors_of_a_model_are_listed_once(tmp_path):
    save_file(weights(), tmp_path / "model.safetensors")
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.tensors is checkpoint.tensors
