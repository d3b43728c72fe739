"""A push publishes only the weights that the numbers on its cards were measured on."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file

from damaging import flip
from drawn_tasks import write_task
from hf_paint import InputError, PushOptions, push_variants, write_report
from hf_paint.cli.main import main
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.hub.publication import Publication
from hf_paint.models import stored
from hf_paint.models.loading import load_clip
from hf_paint.patching.recorded import recorded_run
from hf_paint.results.locks import working_in
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.seals import seal_run
from hf_paint.weights.manifest import MANIFEST
from patch_runs import parallel, sequential


BASE = PushOptions(base_model_id="o/clip")
DELTA = PushOptions(base_model_id="o/clip", form="delta")
IMAGE, TEXT = "visual_projection.weight", "text_projection.weight"


@pytest.fixture
def run(finished_run, tmp_path):
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="module")
def several(model_folder, tmp_path_factory):
    """Strategy -> a finished, read-only run on several tasks."""
    folder = tmp_path_factory.mktemp("several")
    tasks = [write_task(folder, name, seed=seed) for name, seed in (("first", 0), ("second", 3), ("kept", 7))]
    patches = {"sequential": sequential, "parallel": parallel}
    return {name: patch(model_folder, tasks, folder / name).run_folder for name, patch in patches.items()}


def change(folder, name):
    """Change one number of a model that has no manifest, as in earlier versions."""
    (folder / MANIFEST).unlink(missing_ok=True)
    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_base(run, model_folder, tmp_path):
    """Return a copy of the base, from which the run was started."""
    base = Path(shutil.copytree(model_folder, tmp_path / "base"))
    with_model(run, base)
    return base


def with_model(run, base):
    """Let a run name another base."""
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"model": str(base)}))
    return run


@pytest.mark.parametrize("options", [BASE, DELTA])
def test_a_run_without_theta_1_is_refused(hub, run, options):
    shutil.rmtree(run / "theta_1")
    with pytest.raises(InputError, match="theta_1 is missing"):
        push_variants(run, "tester/clip", options=options)
    assert not hub.calls("create_repo")


@pytest.mark.parametrize("options", [BASE, DELTA])
def test_a_theta_1_with_one_other_number_is_refused(hub, run, options):
    flip(run / "theta_1/model.safetensors")
    with pytest.raises(InputError, match=r"theta_1/model\.safetensors has other bytes than when it was saved"):
        push_variants(run, "tester/clip", options=options)
    change(run / "theta_1", IMAGE)
    with pytest.raises(InputError, match="are not those that this run evaluated"):
        push_variants(run, "tester/clip", options=options)
    assert not hub.calls("create_repo")


def test_a_theta_1_with_another_text_tower_is_refused(hub, run):
    change(run / "theta_1", TEXT)
    with pytest.raises(InputError, match=f"theta_1 differs from the base in '{TEXT}'"):
        push_variants(run, "tester/clip", options=BASE)


def test_a_push_reads_each_tower_once_to_check_it(hub, run, monkeypatch):
    read = []
    monkeypatch.setattr(stored, "fingerprint_weights", lambda w: read.append(w.folder) or fingerprint_weights(w))
    Publication.from_run(run, "tester/clip", base_model_id="o/clip")
    assert sorted({*read}) == sorted(read)
    assert len(read) <= 2
    (run / "theta_1" / "model.safetensors").touch()
    Publication.from_run(run, "tester/clip", base_model_id="o/clip")
    assert read[-1] == run / "theta_1"


def test_a_base_that_has_changed_is_refused(hub, run, model_folder, tmp_path):
    base = with_base(run, model_folder, tmp_path)
    Publication.from_run(run, "tester/clip", base_model_id="o/clip")
    change(base, TEXT)
    with pytest.raises(InputError, match="the base model has changed: .*base"):
        push_variants(run, "tester/clip", options=BASE)
    shutil.copy(Path(model_folder) / "model.safetensors", base)
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(config | {"model_max_length": 16}))
    with pytest.raises(InputError, match="the tokenizer has changed: .*base"):
        push_variants(run, "tester/clip", options=BASE)
    assert not hub.calls("create_repo")


def as_snapshot(folder, cache):
    """Lay a model out as the cache of the Hub does: links to blobs, and return the folder with the links."""
    snapshot = cache / "models--o--clip/snapshots/0123"
    (blobs := cache / "models--o--clip/blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(Path(folder).iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_a_base_may_be_a_snapshot_in_the_cache_of_the_hub(hub, run, model_folder, patch_folder, tmp_path):
    base = as_snapshot(model_folder, tmp_path)
    assert Publication.from_run(with_model(run, base), "tester/clip", base_model_id="o/clip").base_folder == base
    push_variants(run, "tester/clip", options=BASE)
    files = HfApi().list_repo_files("tester/clip", revision="alpha-0.50")
    assert {"tokenizer.json", "preprocessor_config.json", "model.safetensors"} <= {*files}
    assert main(["apply", str(base), patch_folder, "--output_dir", str(tmp_path / "applied")]) == 0
    assert load_clip(tmp_path / "applied")
    assert recorded_run(RunFolder(run), RunFolder(run).load_recipe()).base.name == str(base)


def test_a_base_with_links_to_other_files_is_loaded_but_not_published(hub, run, model_folder, tmp_path):
    base = Path(shutil.copytree(model_folder, tmp_path / "base"))
    (base / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (base / "tokenizer.json").symlink_to("../elsewhere.json")
    assert load_clip(base)
    with pytest.raises(InputError, match=r"tokenizer\.json is a link to a file outside its folder"):
        push_variants(with_model(run, base), "tester/clip", options=BASE)


def test_a_base_may_hold_tensors_that_transformers_does_not_read(hub, run, model_folder, tmp_path):
    base = with_base(run, model_folder, tmp_path)
    weights = load_file(base / "model.safetensors")
    save_file(weights | {"text_model.pooler.weight": torch.ones(2)}, base / "model.safetensors", {"format": "pt"})
    push_variants(run, "tester/clip", options=DELTA)
    assert hub.calls("create_repo")
    change(run / "theta_1", TEXT)
    with pytest.raises(InputError, match=f"theta_1 differs from the base in '{TEXT}'"):
        push_variants(run, "tester/clip", options=DELTA)


def test_another_version_of_transformers_may_describe_the_same_base_otherwise(hub, run, model_folder, tmp_path):
    base = with_base(run, model_folder, tmp_path)
    identity = json.loads((run / "identity.json").read_text())
    identity["content"] |= {"the config of the base model": "0", "the tokenizer": "0"}
    (run / "identity.json").write_text(json.dumps(identity))
    with pytest.raises(InputError, match="the tokenizer has changed"):
        push_variants(run, "tester/clip", options=BASE)
    facts = json.loads((run / "card.json").read_text())
    (run / "card.json").write_text(json.dumps(facts | {"versions": facts["versions"] | {"transformers": "5.0.0"}}))
    push_variants(run, "tester/clip", options=BASE)
    change(base, TEXT)
    with pytest.raises(InputError, match="the base model has changed"):
        push_variants(run, "tester/clip", options=BASE)


def test_a_push_can_be_planned_from_a_read_only_folder(hub, run, monkeypatch):
    def denied(folder):
        raise PermissionError(folder)

    monkeypatch.setattr("hf_paint.hub.push.reading", denied)
    assert push_variants(run, "tester/clip", dry_run=True, options=BASE).branches
    monkeypatch.undo()
    with working_in(run), pytest.raises(InputError, match="Another process is using"):
        push_variants(run, "tester/clip", dry_run=True, options=BASE)


def test_a_changed_patched_model_is_computed_again(hub, finished_run, run):
    expected = load_file(finished_run / "patched/model.safetensors")
    flip(run / "patched/model.safetensors")
    with pytest.raises(InputError, match=r"patched/model\.safetensors has other bytes"):
        push_variants(run, "tester/clip", options=BASE)
    change(run / "patched", IMAGE)
    push_variants(run, "tester/clip", options=BASE)
    found = load_file(HfApi().hf_hub_download("tester/clip", "model.safetensors"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_changed_step_is_refused(hub, several, tmp_path):
    run = Path(shutil.copytree(several["sequential"], tmp_path / "run"))
    change(run / "step-1/patched", IMAGE)
    with pytest.raises(InputError, match="are not those that this run evaluated"):
        push_variants(run, "tester/clip", options=BASE)


def test_a_parallel_run_is_published_from_its_models_or_not_at_all(hub, several, tmp_path):
    run = Path(shutil.copytree(several["parallel"], tmp_path / "run"))
    expected = load_file(several["parallel"] / "patched/model.safetensors")
    change(run / "patched", IMAGE)
    push_variants(run, "tester/clip", options=BASE)
    found = load_file(HfApi().hf_hub_download("tester/clip", "model.safetensors"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    change(run / "thetas/first/theta_1", IMAGE)
    with pytest.raises(InputError, match="are not those that this run evaluated"):
        push_variants(run, "tester/clip", options=BASE)


def test_a_run_may_be_read_but_not_worked_in_while_it_is_pushed(hub, run, tmp_path, monkeypatch):
    def upload(*args, **kwargs):
        write_report(run, tmp_path / "report.html")
        push_variants(run, "tester/other", dry_run=True, options=BASE)
        with pytest.raises(InputError, match="Another process is using"):
            working_in(run).__enter__()

    monkeypatch.setattr("hf_paint.hub.push._upload", upload)
    push_variants(run, "tester/clip", options=BASE)
    assert (tmp_path / "report.html").exists()


def test_plots_are_published_if_they_are_there_and_whole(hub, run, caplog):
    seal_run(run)
    (run / "curve.png").unlink()
    (run / "examples-colours.png").unlink()
    push_variants(run, "tester/clip", options=BASE)
    assert "curve.png is missing, so it is not published" in caplog.text
    files = HfApi().list_repo_files("tester/clip")
    card = Path(HfApi().hf_hub_download("tester/clip", "README.md")).read_text()
    assert {"curve.png", "examples-colours.png"}.isdisjoint(files)
    assert "accuracy.png" in files
    assert "accuracy.png" in card
    assert "curve.png" not in card
    assert "examples-colours.png" not in card
    flip(run / "accuracy.png")
    with pytest.raises(InputError, match=r"accuracy\.png has other bytes"):
        push_variants(run, "tester/clip", options=BASE)


def test_nothing_is_pushed_while_a_run_works_in_its_folder(hub, run):
    with working_in(run), pytest.raises(InputError, match="Another process is using"):
        push_variants(run, "tester/clip", options=BASE)
    assert not hub.log
