"""A run that chose alpha 0 is published only if that is asked for."""

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from drawn_tasks import write_task
from hf_paint import InputError, PushOptions, patch_single, push_variants, select_alpha
from hf_paint.cli.main import main
from hf_paint.cli.push import publish
from patch_runs import arguments, weights


@pytest.fixture(scope="module")
def unpatched(model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpatched")
    tasks = write_task(folder / "data"), write_task(folder / "data", "others", seed=7)
    args = arguments(folder / "run", max_steps=2, warmup_steps=1)
    patch_single(model_folder, tasks[0], [tasks[1]], args, alphas=[0.0, 1.0])
    return select_alpha(folder / "run", alpha=0)


def test_a_push_asks_for_yes(hub, unpatched, model_folder, capsys):
    command = ["push", str(unpatched.run_folder), "--repo_id", "tester/clip", "--base_model_id", "o/clip"]
    assert main(command) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "Nothing was patched in" in line
    assert "push it with --yes" in line
    assert not hub.calls("create_repo")
    assert main([*command, "--dry_run"]) == 0
    assert (
        "Alpha 0 was chosen: nothing was patched, and `main` is the base. A push needs --yes."
        in capsys.readouterr().out
    )
    with pytest.raises(InputError, match=r"PushOptions\(allow_unpatched=True\)"):
        push_variants(unpatched, "tester/clip", options=PushOptions(base_model_id="o/clip"))
    assert main([*command, "--yes"]) == 0
    card = Path(HfApi().hf_hub_download("tester/clip", "README.md")).read_text()
    assert "# clip not patched on colours\n\nNothing was patched: alpha 0 was chosen by hand." in card
    found, expected = weights(unpatched.patched), weights(model_folder)
    assert all((found[name] == x).all() for name, x in expected.items())


def test_a_patch_serves_every_alpha_so_it_is_no_copy_of_the_base(hub, unpatched, capsys):
    command = ["push", str(unpatched.run_folder), "--repo_id", "tester/patch", "--base_model_id", "o/clip"]
    assert main([*command, "--form", "delta"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "the patch would be applied at alpha 0 unless another alpha is named, and change nothing" in line
    assert "copy of the base" not in line
    assert main([*command, "--form", "delta", "--dry_run"]) == 0
    assert "nothing was patched, and a patch is applied at alpha 0 by default." in capsys.readouterr().out


def test_a_recipe_that_pushes_ends_with_how_to_push(hub, unpatched, capsys):
    publish(unpatched, "tester/other", private=None, base_model_id="o/clip")
    said = capsys.readouterr().out
    assert said.startswith(
        "Nothing was pushed to tester/other, because nothing was patched. To push it: hf-paint push "
    )
    assert not hub.calls("create_repo")
    assert main(said.split("hf-paint ")[1].split()) == 0
    assert json.loads((unpatched.run_folder / "selection.json").read_text())["alpha"] == 0
    assert {branch.name for branch in HfApi().list_repo_refs("tester/other").branches} >= {"main", "alpha-1.00"}
