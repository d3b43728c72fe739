"""Hostile files and names, each given to the real command: no code runs, nothing leaves its folder, one line is said.

Each attempt prepares files in a folder of its own and runs a command in this process. It is lost if code ran, if a
question was asked, if there is a traceback, if the command took longer than its time or more than its memory, if a
file appeared outside the folder, or if a planted secret was printed or written.
"""

import contextlib
import io
import json
import os
import pickle
import random
import resource
import shutil
import signal
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from unittest import mock


os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tally import Budget, Tally

import hf_paint
from drawn_tasks import write_task_yaml
from hf_paint.cli.main import main


TOY = Path(hf_paint.__file__).parent / "toy_clip"
SECRET = "hf_PlantedTokenThatNobodyMaySee"
TOKEN = mock.patch.dict(os.environ, {"HF_TOKEN": SECRET})
SECONDS = 60
"""Time for one command, which is far more than any of them needs."""
BYTES = 600 * 2**20
"""Memory that one command may add."""
EXIT_CODES = (0, 1, 2)
MODULES = ("datasets", "peft", "hf_paint.hub.push", "hf_paint.report.subject_of_model", "hf_paint.patching.single")
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)
TAGS = ("!!python/object/apply:os.system ['touch ran']", "!!python/name:os.system", "!!binary aGk=", "!evil x")
DEEP = "[" * 100_000
LONG = "9" * 100_000


@dataclass
class Attempt:
    """A folder in which an attempt happens, and the arguments of its command."""

    folder: Path
    model: Path
    arguments: list[str] = field(default_factory=list)

    @property
    def marker(self) -> Path:
        """File that hostile code would write."""
        return self.folder / "ran"

    def edit(self, name: str, **keys: object) -> None:
        """Change keys of a JSON file of the model."""
        path = self.model / name
        values = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(values | keys))


Prepare = Callable[[Attempt], Sequence[str]]


def torture(budget: Budget) -> Iterator[Tally]:
    """Yield a tally for each kind of hostile input; with time left, all of them again with other random bytes."""
    for module in MODULES:
        import_module(module)  # which takes as long as several attempts
    for kind, cases in KINDS.items():
        yield tally_of(kind, cases(budget.rng(kind)), budget)


def tally_of(kind: str, cases: dict[str, Prepare], budget: Budget) -> Tally:
    """Try the cases of a kind, in a temporary folder each."""
    tally = Tally(kind)
    for name, prepare in cases.items():
        if budget.left < 0:
            tally.notes["left out"] = str(len(cases) - tally.tried)
            break
        with tally.attempt(f"{kind}, {name}, seed {budget.seed}"):
            attempt_one(prepare)
    return tally


def attempt_one(prepare: Prepare) -> str:
    """Run one attempt, and return what it printed.

    Raises:
        AssertionError: If something was lost.
    """
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        folder = root / "outer" / "inner"
        folder.mkdir(parents=True)
        (root / "secret.txt").write_text(SECRET)
        attempt = Attempt(folder, Path(shutil.copytree(TOY, folder / "model")))
        arguments = prepare(attempt)
        outside = listing(root, folder)
        code, printed = run(attempt, arguments)
        check(not attempt.marker.exists(), "code ran")
        check(code in EXIT_CODES, f"exit code {code}: {printed[-300:]}")
        check("Traceback" not in printed, printed[-600:])
        check(SECRET not in printed, "the secret was printed")
        check(listing(root, folder) == outside, "a file appeared or changed outside the folder")
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 2**26:
                check(SECRET.encode() not in path.read_bytes(), f"the secret is in {path.relative_to(folder)}")
        return printed


def check(holds: bool, problem: str) -> None:
    """Raise an error with the problem unless something holds."""
    if not holds:
        raise AssertionError(problem)


def listing(root: Path, without: Path) -> dict[str, bytes]:
    """Return the files outside a folder, with their contents."""
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_relative_to(without)]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def run(attempt: Attempt, arguments: Sequence[str]) -> tuple[int, str]:
    """Run a command in the folder, and answer any question with yes."""

    def asked(question: str = "") -> str:
        raise AssertionError(f"it asked: {question[:200]}")

    def too_long(*_: object) -> None:
        raise TimeoutError(f"it took longer than {SECONDS} s")

    out, old = io.StringIO(), Path.cwd()
    handler = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    before = peak_memory()
    os.chdir(attempt.folder)
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(out),
            mock.patch("builtins.input", asked),
            TOKEN,
        ):
            code = main(list(arguments))
    finally:
        os.chdir(old)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    taken = peak_memory() - before
    check(taken < BYTES, f"it took {taken / 2**20:.0f} MB")
    return code, out.getvalue()


def peak_memory() -> int:
    """Return the most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Evil:
    """An object that writes a file as it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.marker, "ran")


def pickles(rng: random.Random) -> dict[str, Prepare]:
    """Pickles where weights, arguments, records and rows are expected."""

    def beside(name: str, *, remove: str = "") -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            (attempt.model / name).write_bytes(pickle.dumps(Evil(attempt.marker)))
            if remove:
                (attempt.model / remove).unlink()
            return evaluate(attempt)

        return prepare

    def convert(attempt: Attempt) -> Sequence[str]:
        towers = {"vision_cfg": {"width": 64, "layers": 1}, "text_cfg": {"width": 64, "heads": 1, "layers": 1}}
        config = {"model_cfg": {"embed_dim": 8, **towers}}
        (attempt.model / "open_clip_config.json").write_text(json.dumps(config))
        (attempt.model / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Evil(attempt.marker)))
        return ["convert", str(attempt.model), str(attempt.folder / "out")]

    def rows(attempt: Attempt) -> Sequence[str]:
        (attempt.folder / "rows.pkl").write_bytes(pickle.dumps(Evil(attempt.marker)))
        text = "{name: x, dataset: pandas, data_files: {test: rows.pkl}, templates: ['{}']}"
        (attempt.folder / "x.yaml").write_text(text)
        return ["tasks", str(attempt.folder / "x.yaml")]

    def adapter(attempt: Attempt) -> Sequence[str]:
        folder = attempt.folder / "adapter"
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
        (folder / "adapter_model.bin").write_bytes(pickle.dumps(Evil(attempt.marker)))
        out = str(attempt.folder / "out")
        return ["interpolate", str(attempt.model), "--adapter", str(folder), "--alphas", "0.5", "--output_dir", out]

    return {
        "pytorch_model.bin": beside("pytorch_model.bin"),
        "pytorch_model.bin alone": beside("pytorch_model.bin", remove="model.safetensors"),
        "training_args.bin": beside("training_args.bin"),
        "optimizer.pt": beside("optimizer.pt"),
        "model.safetensors that is a pickle": beside("model.safetensors"),
        "open_clip_pytorch_model.bin": convert,
        "rows of pandas": rows,
        "adapter_model.bin": adapter,
    }


def remote_code(rng: random.Random) -> dict[str, Prepare]:
    """Classes of a repository's own, wherever transformers looks for them."""

    def with_code(*files: tuple[str, dict[str, object] | None]) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            (attempt.model / "evil.py").write_text(
                f"from pathlib import Path\nPath({str(attempt.marker)!r}).write_text('ran')\n"
                "from transformers import *\n"
                "class C(PreTrainedConfig):\n    model_type = 'evil'\nclass I(CLIPImageProcessorPil):\n    pass\n"
            )
            for name, keys in files:
                if keys is None:
                    (attempt.model / name).unlink(missing_ok=True)
                else:
                    attempt.edit(name, **keys)
            return evaluate(attempt)

        return prepare

    config = {"auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.C"}}
    images = {"image_processor_type": "Evil", "auto_map": {"AutoImageProcessor": "evil.I"}}
    tokens = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.C", "evil.C"]}}
    return {
        "a known model type": with_code(("config.json", config)),
        "an unknown model type": with_code(("config.json", config | {"model_type": "evil"})),
        "no model type": with_code(("config.json", config | {"model_type": None})),
        "an image processor": with_code(("preprocessor_config.json", images), ("processor_config.json", None)),
        "a processor": with_code(("processor_config.json", images | {"image_processor": images})),
        "a tokenizer": with_code(("tokenizer_config.json", tokens)),
        "a kernel": with_code(("config.json", {"attn_implementation": "evil/kernel"})),
        "code to generate with": with_code(("generation_config.json", {"custom_generate": "evil"})),
    }


def traversal(rng: random.Random) -> dict[str, Prepare]:
    """Names and links that lead out of a folder."""

    def shards(name: object) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            (attempt.model / "model.safetensors").rename(attempt.folder / "other.safetensors")
            index = {"metadata": {}, "weight_map": {"logit_scale": name}}
            (attempt.model / "model.safetensors.index.json").write_text(json.dumps(index))
            return rng.choice([evaluate, interpolate])(attempt)

        return prepare

    def linked(name: str) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            (attempt.model / name).unlink(missing_ok=True)
            (attempt.model / name).symlink_to("../../../secret.txt")
            return interpolate(attempt)

        return prepare

    def task(name: str) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            text = f"{{name: {json.dumps(name)}, dataset: parquet, data_files: {{test: x}}, templates: ['{{}}']}}"
            (attempt.folder / "x.yaml").write_text(text)
            return ["tasks", str(attempt.folder / "x.yaml")]

        return prepare

    def listed(name: str) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            entry = {"name": name, "role": "patching", "kind": "classification"}
            entry |= {"class_names": ["x"], "templates": ["{}"], "built_in": name}
            (attempt.model / "tasks.json").write_text(json.dumps({"format_version": 1, "tasks": [entry]}))
            return ["evaluate", str(attempt.model)]

        return prepare

    def repository(name: str) -> Prepare:
        return lambda attempt: rng.choice(
            [
                ["evaluate", name, "--tasks", "mnist"],
                ["variants", name],
                ["apply", str(attempt.model), name, "--output_dir", str(attempt.folder / "out")],
                ["push", name, "--repo_id", name],
            ]
        )

    places = ("../x", "../../x", "/etc/x", "..\\x", "x/../../y", "~/x", ".", "..", "%2e%2e/x", "a/b@../../x", "a//b")
    names = {f"a repository {place}": repository(place) for place in places}
    names |= {f"a task {place}": task(place) for place in places}
    names |= {f"a task in tasks.json {place}": listed(place) for place in places[:4]}
    shard = ("../other.safetensors", "/etc/passwd", "..", "x" * 5000, 5, None, "..\\other.safetensors", "a\0b")
    names |= {f"a shard {str(place)[:30]!r}": shards(place) for place in shard}
    return names | {f"a link {name}": linked(name) for name in ("tokens_x.json", "vocab.json", "tokenizer.json")}


def documents(rng: random.Random) -> dict[str, Prepare]:
    """Bombs, tags, deep nesting and long numbers in every JSON and YAML that is read."""

    def written(name: str, text: str, command: Callable[[Attempt], Sequence[str]]) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            path = attempt.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            return command(attempt)

        return prepare

    def recipe(attempt: Attempt) -> Sequence[str]:
        return ["patch", "--config", "x.yaml", "--dry_run"]

    def task(attempt: Attempt) -> Sequence[str]:
        return ["tasks", "x.yaml"]

    def applied(attempt: Attempt) -> Sequence[str]:
        (attempt.folder / "patch" / "patch.safetensors").write_bytes(b"")
        return ["apply", str(attempt.model), str(attempt.folder / "patch"), "--output_dir", "out"]

    cases = {}
    hostile_yaml = {"aliases": BOMB, "nesting": DEEP, "a number": f"seed: {LONG}", "NUL": "a: '\0'"}
    hostile_yaml |= {f"the tag {tag.split()[0]}": f"model: {tag}\n" for tag in TAGS}
    for what, text in hostile_yaml.items():
        cases[f"{what} in a recipe"] = written("x.yaml", text, recipe)
        cases[f"{what} in a task"] = written("x.yaml", text, task)
        card = f"---\n{text}\n---\n"
        cases[f"{what} in a card"] = written("model/README.md", card, rng.choice([demo_of_card, applied_card]))
    for what, text in {"nesting": DEEP, "a number": f'{{"a": {LONG}}}', "no object": "[]", "a torn file": "{"}.items():
        for name in ("config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json"):
            cases[f"{what} in {name}"] = written(f"model/{name}", text, evaluate)
        cases[f"{what} in tasks.json"] = written("model/tasks.json", text, lambda a: ["evaluate", str(a.model)])
        cases[f"{what} in head.json"] = written("model/head.json", text, interpolate)
        cases[f"{what} in patch_config.json"] = written("patch/patch_config.json", text, applied)
        cases[f"{what} in adapter_config.json"] = written("patch/adapter_config.json", text, applied)
        cases[f"{what} in open_clip_config.json"] = written(
            "model/open_clip_config.json", text, lambda a: ["convert", str(a.model), "out"]
        )
    return cases


def headers(rng: random.Random) -> dict[str, Prepare]:
    """Headers of safetensors that claim what is not there, and random bytes in real ones."""

    def with_header(change: Callable[[bytes], bytes], size: int = 0) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            path = attempt.model / "model.safetensors"
            path.write_bytes(change(path.read_bytes()))
            if size:
                with path.open("r+b") as file:
                    file.truncate(size)  # without any bytes on the disk
            return rng.choice([evaluate, interpolate])(attempt)

        return prepare

    def header(**entry: object) -> Prepare:
        text = json.dumps({"logit_scale": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]} | entry}).encode()
        return with_header(lambda _: len(text).to_bytes(8, "little") + text + b"\0" * 4)

    def noise(content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(rng.randint(1, 20)):
            changed[rng.randrange(4000)] = rng.randrange(256)
        return bytes(changed)

    cases = {
        "a terabyte of header": with_header(lambda _: (2**40).to_bytes(8, "little"), 2**40 + 8),
        "a header of 2**63 bytes": with_header(lambda content: b"\xff" * 8 + content[8:]),
        "deep nesting": with_header(lambda _: (10**5).to_bytes(8, "little") + DEEP.encode()),
        "float offsets": header(data_offsets=[0.0, 4.0]),
        "a terabyte of values": header(shape=[2**38], data_offsets=[0, 2**40]),
        "negative sizes": header(shape=[-1, -1]),
        "a product that overflows": header(shape=[2**32, 2**32, 0]),
        "an unknown dtype": header(dtype=["F32"]),
    }
    return cases | {f"noise {number}": with_header(noise) for number in range(8)}


def bombs(rng: random.Random) -> dict[str, Prepare]:
    """Small files that unpack into large ones."""

    def png(width: int, height: int) -> bytes:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

        size = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
        pixels = zlib.compress(bytes(10**6))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")

    def pictures(*contents: bytes) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            for number, content in enumerate(contents):
                folder = attempt.folder / "pictures" / f"class {number}"
                folder.mkdir(parents=True)
                (folder / "x.png").write_bytes(content)
            return ["tasks", str(attempt.folder / "pictures")]

        return prepare

    def archive(names: Sequence[str], size: int) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            with zipfile.ZipFile(attempt.folder / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
                for name in names:
                    file.writestr(name, bytes(size))
            return ["tasks", str(attempt.folder / "x.zip")]

        return prepare

    return {
        "a picture of 60000 x 60000": pictures(png(60000, 60000), png(4, 4)),
        "a picture of 2**31 pixels a side": pictures(png(2**31 - 1, 2**31 - 1), png(4, 4)),
        "a zip of zeros": archive(["a/x.png", "b/y.png"], 50 * 2**20),
        "a zip that leaves its folder": archive(["../../out.png", "/tmp/out.png", "a/../../x.png"], 10),
    }


def secrets(rng: random.Random) -> dict[str, Prepare]:
    """A token in the environment and in the arguments, which must appear nowhere."""

    def planted(*arguments: str) -> Prepare:
        def prepare(attempt: Attempt) -> Sequence[str]:
            return [*arguments[:1], str(attempt.model), *arguments[1:]]

        return prepare

    def trained(attempt: Attempt) -> Sequence[str]:
        write_task_yaml(attempt.folder, "colours")
        keys = {
            "max_steps": 2,
            "save_strategy": "steps",
            "save_steps": 1,
            "warmup_steps": 1,
            "hub_token": SECRET,
            "alphas": 1,
        }
        keys |= {"per_device_train_batch_size": 4, "selection": "none", "output_dir": attempt.folder / "run"}
        flags = [text for key, value in keys.items() for text in (f"--{key}", str(value))]
        tasks = ["--patching_tasks", str(attempt.folder / "colours.yaml")]
        return ["patch", "--model", str(attempt.model), *tasks, "--use_cpu", "true", *flags]

    return {
        "a run with a token": trained,
        "a wrong task": planted("evaluate", "--tasks", "nothing"),
        "a push of no run": planted("push", "--repo_id", "o/x"),
        "a check": planted("check", "--against", "o/x", "--tasks", "mnist"),
    }


def evaluate(attempt: Attempt) -> Sequence[str]:
    """Return a command that loads the model, and ends because it has no such data."""
    return ["evaluate", str(attempt.model), "--tasks", str(task_without_data(attempt))]


def interpolate(attempt: Attempt) -> Sequence[str]:
    """Return a command that copies the model."""
    return [
        "interpolate",
        str(attempt.model),
        str(TOY),
        "--alphas",
        "0.5",
        "--output_dir",
        str(attempt.folder / "out"),
    ]


def demo_of_card(attempt: Attempt) -> Sequence[str]:
    """Return a command that reads the card of the model as that of a patched model."""
    return ["apply", str(TOY), str(attempt.model), "--output_dir", str(attempt.folder / "out")]


def applied_card(attempt: Attempt) -> Sequence[str]:
    """Return a command that reads the licence in the card of the model."""
    return ["apply", str(attempt.model), str(attempt.model), "--output_dir", str(attempt.folder / "out")]


def task_without_data(attempt: Attempt) -> Path:
    """Write a task whose files are missing."""
    path = attempt.folder / "task.yaml"
    path.write_text(
        "{name: x, dataset: parquet, data_files: {test: none.parquet}, templates: ['{}'], class_names: [a, b]}"
    )
    return path


KINDS: dict[str, Callable[[random.Random], dict[str, Prepare]]] = {
    "pickles": pickles,
    "remote code": remote_code,
    "traversal": traversal,
    "documents": documents,
    "headers": headers,
    "bombs": bombs,
    "secrets": secrets,
}
