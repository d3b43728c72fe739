"""What others can put into a repository or a folder, and what a push must notice."""

import base64
import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from hf_paint import InputError, PushOptions, push_variants
from hf_paint.weights.checkpoints import interpolate_checkpoints


BASE = PushOptions(base_model_id="o/clip")
CARDS = {
    "no mapping": "---\n- a\n---\n",
    "no YAML": "---\na: [b\n---\n",
    "a tag": "---\nhf_paint: !!python/object/apply:os.system ['true']\n---\n",
    "aliases": "---\na: &a [x, x, x, x]\n" + "".join(f"b{i}: &b{i} [{'*a, ' * 9}*a]\n" for i in range(3)) + "---\n",
    "facts that are none": "---\nhf_paint: 3\n---\n",
    "weights that are none": "---\nhf_paint: {weights: [1]}\n---\n",
    "no text": "\0\x01",
    "a model index": "---\nmodel-index: {a: 1}\n---\n",
}


@pytest.fixture
def run(finished_run, tmp_path):
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def actions(plan):
    return {branch.name: branch.action for branch in plan.branches}


def commit(hub, card):
    """Commit a card with git, past the checks of the Hub's API."""
    value = {"path": "README.md", "content": base64.b64encode(card.encode()).decode()}
    hub.store.commit("model", "tester/clip", "main", [{"key": "file", "value": value}])


def test_a_damaged_card_counts_as_not_ours(hub, run):
    push_variants(run, "tester/clip", alphas=[0.5], options=BASE)
    for card in CARDS.values():
        commit(hub, card)
        with pytest.raises(InputError, match="The branch main of tester/clip has different weights"):
            push_variants(run, "tester/clip", alphas=[0.5], options=BASE)
        plan = push_variants(run, "tester/clip", alphas=[0.5], overwrite=True, dry_run=True, options=BASE)
        assert actions(plan) == {"alpha-0.50": "keep", "main": "replace"}


@pytest.mark.parametrize("name", ["report.html", "tasks.json", "curve.png"])
def test_a_push_notices_a_changed_file_beside_an_unchanged_card(hub, run, name):
    push_variants(run, "tester/clip", alphas=[], options=BASE)
    path = run / name
    path.write_bytes(path.read_bytes() + b"\n")
    assert actions(push_variants(run, "tester/clip", alphas=[], options=BASE)) == {"main": "update card"}
    stored = HfApi().hf_hub_download("tester/clip", name)
    assert Path(stored).read_bytes() == path.read_bytes()
    assert actions(push_variants(run, "tester/clip", alphas=[], options=BASE)) == {"main": "keep"}


def test_a_link_out_of_a_folder_is_neither_copied_nor_uploaded(hub, run, model_folder, tmp_path):
    secret = tmp_path / "id_rsa"
    secret.write_text("planted-token")
    linked = Path(shutil.copytree(model_folder, tmp_path / "linked"))
    (linked / "tokens_x.json").symlink_to(secret)
    with pytest.raises(InputError, match=r"tokens_x.json is a link to a file outside its folder"):
        interpolate_checkpoints(linked, model_folder, {0.5: tmp_path / "out"})
    assert not (tmp_path / "out" / "tokens_x.json").exists()
    for name in ("patched/tokens_x.json", "examples-x.png", "tasks.json"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(secret)
        with pytest.raises(InputError, match="is a link to a file outside its folder"):
            push_variants(run, "tester/clip", alphas=[], options=BASE)
        (run / name).unlink()
    assert not [path for path in hub.store.root.rglob("*") if path.is_file() and b"planted" in path.read_bytes()]


def test_a_snapshot_of_the_hub_cache_is_made_of_links_and_copied(model_folder, tmp_path):
    blobs, snapshot = tmp_path / "models--o--clip" / "blobs", tmp_path / "models--o--clip" / "snapshots" / ("0" * 40)
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in Path(model_folder).iterdir():
        shutil.copyfile(path, blobs / f"{path.name}-etag")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{path.name}-etag")
    interpolate_checkpoints(snapshot, model_folder, {0.5: tmp_path / "out"})
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "clip"
    assert not (tmp_path / "out" / "config.json").is_symlink()
