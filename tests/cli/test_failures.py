"""What the disk, the memory, the network or another process does to a command is one line; a bug is a traceback."""

import errno
import http.client
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets.config import HF_DATASETS_CACHE
from huggingface_hub.errors import HfHubHTTPError
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from forked_calls import Fork
from hf_paint.cli.failures import describe
from hf_paint.cli.main import main
from hf_paint.errors import InputError
from hf_paint.files import save_atomically, write_text


NOISE = np.random.default_rng(0).random(100_000)
RESUME = "Once that is fixed, run the same command again; a run that had begun resumes."
ONLINE = f"Check the connection to the internet. {RESUME}"


def fail_with(monkeypatch, capsys, error):
    """Let a command raise an error, and return its exit code and what it says."""

    def raise_error(*_):
        raise error

    monkeypatch.setattr("hf_paint.cli.tasks.run", raise_error)
    code = main(["tasks"])
    return code, capsys.readouterr().err


def save_image(path):
    Image.fromarray((NOISE[:90_000].reshape(300, 300) * 255).astype(np.uint8)).save(path)


def save_plot(path):
    figure = Figure()
    figure.subplots().plot(NOISE[:2000])
    figure.savefig(path, dpi=200)


WRITERS = {
    "text.md": lambda path: path.write_text("x" * 100_000),
    "array.npy": lambda path: np.save(path, NOISE),
    "arrays.npz": lambda path: np.savez(path, x=NOISE),
    "table.parquet": lambda path: pq.write_table(pa.table({"x": NOISE}), path),
    "picture.png": save_image,
    "plot.png": save_plot,
    "plot.svg": save_plot,
    "weights.safetensors": lambda path: save_file({"x": torch.zeros(100_000)}, path),
    "optimizer.pt": lambda path: torch.save({"x": torch.zeros(100_000)}, path),
    "state.pt": lambda path: torch.save({"x": torch.zeros(100_000)}, path.open("wb")),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """What is said of writers whose files become larger than the system allows, plainly and in a temporary folder."""
    folder = tmp_path_factory.mktemp("small")

    def write_all():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        lines = []
        for name, write in WRITERS.items():
            for path, save in ((folder / name, write), (folder / "a" / name, partial(save_atomically, save=write))):
                try:
                    save(path)
                except Exception as error:
                    lines.append(f"{path}|{describe(error)}")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("\n".join(lines))
        return 0

    code, printed = Fork(write_all).wait()
    assert code == 0, printed
    assert list((folder / "a").iterdir()) == []
    return folder, dict(line.split("|") for line in printed.splitlines() if "|" in line)


@pytest.mark.parametrize("name", WRITERS)
def test_a_refused_write_names_the_file_and_the_reason(refused, name):
    folder, lines = refused
    for path in (folder / name, folder / "a" / name):
        line = lines[str(path)]
        assert line.startswith(f"{path}: ")
        assert line.endswith(f". {RESUME}")
        told = name not in ("array.npy", "optimizer.pt")  # the libraries hide the reason
        assert not told or os.strerror(errno.EFBIG) in line


@pytest.mark.parametrize("number", ["ENOSPC", "EIO", "EACCES", "EROFS", "EDQUOT", "ENAMETOOLONG"])
def test_an_error_of_the_disk(monkeypatch, capsys, tmp_path, number):
    number = getattr(errno, number)

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hf_paint.cli.tasks.run", lambda *_: write_text(tmp_path / "run" / "a.json", "{}"))
    monkeypatch.setattr(Path, "write_text", refuse)
    assert main(["tasks"]) == 1
    said = capsys.readouterr().err
    assert said == f"hf-paint: {tmp_path / 'run' / 'a.json'}: {os.strerror(number)}. {RESUME}\n"
    assert list((tmp_path / "run").iterdir()) == []


def raised(error, cause):
    error.__cause__ = cause
    return error


def of_the_hub(status):
    return HfHubHTTPError(
        f"{status} of the server", response=httpx.Response(status, request=httpx.Request("GET", "x"))
    )


FAILURES = {
    "a wrapped error": (
        raised(RuntimeError("datasets failed"), OSError(errno.ENOSPC, "x")),
        "No space left on device",
    ),
    "the network": (httpx.ReadError("the connection was cut"), "network failed: the connection was cut"),
    "the network, wrapped": (raised(ValueError("x"), http.client.IncompleteRead(b"")), "network failed"),
    "the server": (of_the_hub(503), "network failed: 503"),
    "a refusal": (of_the_hub(403), "refused: 403"),
    "memory": (MemoryError(), "MemoryError. Run the same command again with smaller batches (in training, half"),
    "numpy's memory": (
        np._core._exceptions._ArrayMemoryError((10**15,), np.dtype(float)),
        "Unable to allocate 7.11 PiB",
    ),
    "torch's memory": (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
    "a GPU's memory": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        "not enough memory: CUDA",
    ),
    "a process pool": (BrokenProcessPool("A process was terminated abruptly"), "another process died"),
    "a worker": (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "dataloader_num_workers"),
}


@pytest.mark.parametrize(("error", "words"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_one_line(monkeypatch, capsys, error, words):
    code, said = fail_with(monkeypatch, capsys, error)
    assert code == 1
    assert said.count("\n") == 1
    assert said.startswith("hf-paint: ")
    assert words in said
    assert "un the same command again" in said or "refused" in said


BUGS = {
    "a bug": ZeroDivisionError("division by zero"),
    "a bug that says file": RuntimeError("the file is a tensor"),
    "a closed file": OSError(errno.EBADF, "Bad file descriptor"),
    "a wrong argument": OSError(errno.EINVAL, "Invalid argument"),
    "a column that does not exist": pa.ArrowKeyError("Column 'x' does not exist"),
    "a wrong type": pa.ArrowTypeError("Expected bytes, got a 'int' object"),
    "a wrong shape": RuntimeError("mat1 and mat2 shapes cannot be multiplied (1x2 and 3x4)"),
}


@pytest.mark.parametrize("error", BUGS.values(), ids=BUGS)
def test_a_bug_is_a_traceback(monkeypatch, capsys, error):
    code, said = fail_with(monkeypatch, capsys, error)
    assert code == 1
    assert said.startswith("Traceback")
    assert str(error) in said


def test_a_disk_that_does_not_allow_a_name_is_no_bug(monkeypatch, capsys):
    code, said = fail_with(monkeypatch, capsys, OSError(errno.EINVAL, "Invalid argument", "a:b"))
    assert (code, said) == (1, f"hf-paint: a:b: Invalid argument. {RESUME}\n")


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No file", "a.json"), InputError("no"), KeyError()])
def test_a_traceback_is_shown_if_it_is_wanted(monkeypatch, capsys, error):
    plain_code, plain = fail_with(monkeypatch, capsys, error)
    monkeypatch.setenv("HF_PAINT_TRACEBACK", "1")
    code, said = fail_with(monkeypatch, capsys, error)
    assert code == plain_code
    assert said.startswith("Traceback")
    assert said.splitlines()[-1] == plain.splitlines()[-1]
    assert ("Traceback" in plain) == isinstance(error, KeyError)


def test_a_missing_file_may_be_a_bug_and_tells_how_to_see_it(monkeypatch, capsys):
    _, said = fail_with(monkeypatch, capsys, FileNotFoundError(errno.ENOENT, "No such file", "a.json"))
    assert "please report this with the output of HF_PAINT_TRACEBACK=1" in said
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "HF_PAINT_TRACEBACK=1" in capsys.readouterr().out


INPUTS = {
    "a wrong path": (FileNotFoundError(errno.ENOENT, "No such file"), 2),
    "no permission": (PermissionError(errno.EACCES, "Permission denied"), 2),
    "no permission in a cache": (PermissionError(errno.EACCES, "Permission denied", f"{HF_DATASETS_CACHE}/x.lock"), 1),
    "a broken disk": (OSError(errno.EIO, "Input/output error"), 1),
    "the network": (ConnectionResetError("cut"), 1),
    "a network that datasets wraps": (raised(RuntimeError("generating failed"), httpx.ReadTimeout("slow")), 1),
    "a name that the Hub does not know": (of_the_hub(404), 2),
    "offline, as wanted": (ConnectionError("Couldn't reach 'x' on the Hub (OfflineModeIsEnabled)"), 2),
    "no reason": (None, 2),
}


@pytest.mark.parametrize(("cause", "expected"), INPUTS.values(), ids=INPUTS)
def test_an_input_is_wrong_unless_the_machine_failed(monkeypatch, capsys, cause, expected):
    code, said = fail_with(monkeypatch, capsys, raised(InputError("The recipe x cannot be read."), cause))
    assert code == expected
    is_network = any("cut" in str(link) or "slow" in str(link) for link in (cause, getattr(cause, "__cause__", None)))
    advice = "" if expected == 2 else f" {ONLINE if is_network else RESUME}"
    assert said == f"hf-paint: The recipe x cannot be read.{advice}\n"


class Rows(torch.utils.data.Dataset):
    def __init__(self, fail):
        self.fail = fail

    def __len__(self):
        return 2

    def __getitem__(self, index):
        self.fail()


def full_disk():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(("fail", "words"), [(full_disk, "No space left on device"), (killed, "process died")])
def test_what_happens_to_a_dataloader_worker_is_told(monkeypatch, capsys, fail, words):
    monkeypatch.setattr("hf_paint.cli.tasks.run", lambda *_: list(DataLoader(Rows(fail), num_workers=1)))
    assert main(["tasks"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert words in said


def test_a_reader_that_ends_first_is_no_failure():
    program = "import sys; from hf_paint.cli import main; sys.exit(main(['tasks']))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_lost_connection_is_no_lost_reader(monkeypatch, capsys):
    code, said = fail_with(monkeypatch, capsys, BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert code == 1
    assert "network failed" in said
