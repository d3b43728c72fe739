"""The benchmarks' arithmetic, compared with explicit numbers."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from transformers import CLIPVisionConfig


sys.path.insert(0, str(Path(__file__).parent))
with patch.dict(os.environ):  # the benchmarks run in a separate environment
    import common
    import gpu
    import gpu_figures
    import recording
    import towers

MIB = 2**20


def test_ratios_are_those_of_the_rounds_and_rates_count_the_work():
    plain = [common.Run(seconds) for seconds in (4.0, 9.0, 5.0)]
    ours = [common.Run(2.0, 30 * MIB), common.Run(3.0, 20 * MIB), common.Run(1.0, 10 * MIB)]
    row = common.compare("job", plain, ours, difference=2e-7)
    assert (row.plain, row.ours) == ("5 s", "2 s")
    assert row.ratio == "3.00 (2.00 to 5.00)"  # not 5 / 2
    assert row.memory == "0 / 30 MiB"
    assert row.difference == "2.0e-07"
    assert row.met is None
    rates = common.compare("job", plain, ours, unit="images", work=(10, 20))
    assert (rates.plain, rates.ours) == ("2 images/s", "10 images/s")
    assert rates.ratio == "6.00 (4.00 to 10.00)"


@pytest.mark.parametrize(
    ("target", "met"),
    [
        ({"speedup": 3}, True),
        ({"speedup": 3.1}, False),
        ({"speedup": 3, "mib": 30}, True),
        ({"speedup": 3, "mib": 29}, False),
        ({"difference": 1e-6}, True),
        ({"difference": 0}, False),
    ],
)
def test_every_part_of_a_target_counts(target, met):
    plain, ours = [common.Run(3.0)], [common.Run(1.0, 30 * MIB)]
    assert common.compare("job", plain, ours, difference=1e-6, target=common.Target(**target)).met is met


def test_a_script_replaces_its_own_record_only(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "RESULTS", tmp_path)
    asked = SimpleNamespace(device="cpu", threads=1, rounds=5)
    for script, job in (("head", "a"), ("interpolation", "b"), ("head", "c")):
        row = common.Row(job=job, plain="", ours="3 s", met=False)
        recording.record(script, [row], asked, order=["interpolation", "head"])
    found = json.loads((tmp_path / "cpu.json").read_text())
    jobs = [(script, part["rows"][0]["job"]) for script, part in found.items()]
    assert jobs == [("interpolation", "b"), ("head", "c")]
    assert all("medians of 5" in part["about"]["machine"] for part in found.values())


def test_rows_survive_the_file_and_become_a_table(tmp_path):
    rows = [common.Row(job="a", plain="2 s", ours="1 s", target="at least 2x", met=True)]
    rows.append(common.Row(job="b", plain="", ours="3 s", met=False))
    common.report(rows, type("Parsed", (), {"json": tmp_path / "rows.jsonl"}))
    assert common.read_rows(tmp_path / "rows.jsonl") == rows
    assert common.table(rows).splitlines()[2:] == [
        "| a | 2 s | 1 s |  |  |  | at least 2x | yes |",
        "| b |  | 3 s |  |  |  |  | NO |",
    ]
    assert common.read_rows(tmp_path / "none.jsonl") == []


def test_ways_take_turns():
    order = []
    ways = {name: lambda name=name: order.append(name) or common.Run(len(order)) for name in "ab"}
    assert common.interleave(ways, 2) == {"a": [(1, 0), (3, 0)], "b": [(2, 0), (4, 0)]}
    assert order == ["a", "b", "a", "b"]


def test_peak_memory_is_that_of_the_child_alone():
    held = bytearray(200 * MIB)
    small = common.child([sys.executable, "-S", "-c", "pass"])
    large = common.child([sys.executable, "-S", "-c", "held = bytearray(b'1' * (100 * 2**20))"])
    assert len(held) == 200 * MIB
    assert small.peak < 50 * MIB
    assert 100 * MIB < large.peak - small.peak + 10 * MIB < 250 * MIB
    with pytest.raises(RuntimeError, match="ended with 3: no luck"):
        common.child([sys.executable, "-c", "import sys; print('no luck', file=sys.stderr); sys.exit(3)"])


@pytest.mark.parametrize(("patch_size", "shape", "gflops"), [(32, "ViT-B/32", 8.7), (14, "ViT-L/14", 162)])
def test_operations_per_image_are_the_known_ones(patch_size, shape, gflops):
    """Twice the published multiply-adds of these towers: 4.4 and 81 billion."""
    config = CLIPVisionConfig(**{"patch_size": patch_size} | towers.SHAPES[shape]["vision"])
    assert towers.flops_per_image(config) / 1e9 == pytest.approx(gflops, rel=0.02)


def test_the_last_error_of_a_log_is_found_before_what_was_printed_later():
    log = "Traceback (most recent call last):\n  File one\nValueError: first\nmore\n"
    log += "Traceback (most recent call last):\n  File two\nRuntimeError: no gloo\n" + "{'loss': '2.1'}\n" * 200
    assert gpu_figures.last_error(log).splitlines()[:3] == ["", "  File two", "RuntimeError: no gloo"]
    assert gpu_figures.last_error("killed\n") == "killed"


def test_sections_run_in_order_and_those_without_speeds_together():
    sections = ["rates", "train", "same", "many", "lora"]
    assert gpu.groups(sections, together=True) == [["rates"], ["train"], ["same", "many"], ["lora"]]
    assert gpu.groups(sections, together=False) == [[section] for section in sections]
    assert gpu.groups(["lora"], together=True) == [["lora"]]


@pytest.fixture
def tiny_section(monkeypatch, tmp_path):
    """Give a function that runs a generator of figures as a tiny section."""

    def run(section):
        monkeypatch.setitem(sys.modules, "drawn_up", SimpleNamespace(rates=section))
        monkeypatch.setattr(gpu, "FOLDER", tmp_path)
        monkeypatch.setitem(gpu.SECTIONS, "rates", ("drawn_up", 1))
        return gpu.run_child("rates", SimpleNamespace(tiny=True, device="cpu"), 100.0)

    return run


def test_a_section_that_fails_keeps_its_figures_and_stops_no_other(tiny_section):
    def rates(setting):
        yield gpu_figures.Figure(name="before", value=1.0)
        raise ValueError("no luck")

    found = tiny_section(rates)
    assert [figure["name"] for figure in found["figures"]] == ["before"]
    assert "no luck" in found["error"]


def test_a_tiny_section_that_hangs_is_stopped_at_its_limit_with_its_processes(tiny_section, monkeypatch, tmp_path):
    def rates(setting):
        process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(100)"])
        (tmp_path / "pid").write_text(str(process.pid))
        yield gpu_figures.Figure(name="before", value=1.0)
        time.sleep(100)

    monkeypatch.setattr(gpu, "TINY_LIMIT", 2.0)
    found = tiny_section(rates)
    assert [figure["name"] for figure in found["figures"]] == ["before"]
    assert "stopped at its limit" in found["error"]
    stop = time.monotonic() + 20
    while is_running(int((tmp_path / "pid").read_text())):
        assert time.monotonic() < stop
        time.sleep(0.01)


def is_running(pid):
    """Return whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_failed_section_is_the_exit_code_after_the_others_ran(monkeypatch, tmp_path, capsys):
    def run_child(section, parsed, left):
        return {"seconds": 1.0, "figures": []} | ({"error": "no luck"} if section == "rates" else {})

    keys = {"device": "cpu", "tiny": False, "limit": None, "out": None, "json": tmp_path / "found.json"}
    monkeypatch.setattr(gpu, "run_child", run_child)
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)
    monkeypatch.setitem(sys.modules, "drawn_up", SimpleNamespace())
    monkeypatch.setattr(gpu, "SECTIONS", {"rates": ("drawn_up", 1), "head": ("drawn_up", 1)})
    for sections, expected in ((["rates", "head"], 1), (["head"], 0)):
        parsed = SimpleNamespace(sections=sections, **keys)
        monkeypatch.setattr(gpu, "arguments", lambda *_, parsed=parsed, **__: parsed)
        assert gpu.main() == expected
        found = json.loads((tmp_path / "found.json").read_text())
        assert (found["tiny"], list(found["sections"])) == (True, sections)
        assert "tiny shapes" in capsys.readouterr().out
