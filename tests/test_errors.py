"""Errors fit on one line, and the command line prints them whole."""

import pytest

from hf_paint.cli.main import main
from hf_paint.errors import one_line


@pytest.mark.parametrize(("limit", "expected"), [(300, "a b c"), (None, "a b c"), (4, "a...")])
def test_one_line_joins_lines_and_marks_a_cut(limit, expected):
    assert one_line(ValueError("a\n  b\tc"), limit=limit) == expected


def test_the_command_line_prints_a_long_message_whole(capsys, tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("name: a\ndataset: parquet\ntemplates: ['a {}']\n" + "".join(f"key_{i}: 1\n" for i in range(3)))
    assert main(["tasks", str(path)]) == 2
    line = capsys.readouterr().err.strip()
    assert len(line) > 300
    assert line.endswith(".")
