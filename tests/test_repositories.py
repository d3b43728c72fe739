"""Model files in folders and on the Hub."""

import time

import pytest
from huggingface_hub import HfApi, constants

from hf_paint.errors import InputError, JobError
from hf_paint.models.loading import load_clip
from hf_paint.repositories import cached, commit_of, fetch, folder_of, pinned, split_revision
from hub_server import Fault


REPO = "tester/clip"


@pytest.fixture
def repo(hub):
    api = HfApi()
    api.create_repo(REPO)
    for text, file in (
        (b"{}", "config.json"),
        (b"weights", "model.safetensors"),
        (b"---\nlicense: mit\n---\n", "README.md"),
    ):
        api.upload_file(path_or_fileobj=text, path_in_repo=file, repo_id=REPO)
    api.create_branch(REPO, branch="alpha-0.50")
    return REPO


def test_a_file_in_a_folder(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert fetch(tmp_path, "config.json") == cached(tmp_path, "config.json") == tmp_path / "config.json"
    assert fetch(tmp_path, "README.md") is cached(tmp_path, "README.md") is None
    assert folder_of(tmp_path, ["*.json"]) == tmp_path
    assert pinned(str(tmp_path), tmp_path) == str(tmp_path)


def test_a_file_on_the_hub(repo):
    assert cached(repo, "config.json") is None
    path = fetch(repo, "config.json")
    assert path.read_text() == "{}"
    assert fetch(repo, "head.json") is None
    commit = commit_of(path.parent)
    assert cached(repo, "config.json") == cached(f"{repo}@{commit}", "config.json") == path
    assert fetch(f"{repo}@alpha-0.50", "config.json") == fetch(repo, "config.json", "alpha-0.50") == path


def test_a_snapshot_holds_the_files_that_match(repo):
    folder = folder_of(f"{repo}@alpha-0.50", ["*.json", "*.safetensors"])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert pinned(f"{repo}@alpha-0.50", folder) == f"{repo}@{folder.name}"
    assert split_revision(pinned(repo, folder)) == (repo, folder.name)


@pytest.mark.parametrize("find", [lambda name: fetch(name, "config.json"), lambda name: folder_of(name, ["*.json"])])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere/at/all", "'/nowhere/at/all' is neither a folder nor a Hub repository id"),
        ("tester/nothing", "'tester/nothing' is neither a folder nor a repository on the Hub that you have access to"),
        (f"{REPO}@v9", f"'{REPO}' has no branch, tag or commit 'v9'"),
    ],
)
def test_wrong_names(repo, find, name, message):
    with pytest.raises(InputError, match=message):
        find(name)


def test_a_hub_that_fails(repo, hub, monkeypatch):
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.01)))
    hub.faults = [Fault("500", when="resolve", method="*", times=99)]
    message = f"'{REPO}' is not a folder, and downloading it from the Hub at revision 'main' failed: "
    with pytest.raises(InputError, match=message):
        fetch(REPO, "config.json")
    with pytest.raises(JobError, match=message):
        fetch(REPO, "config.json", failure=JobError)
    assert fetch(REPO, "config.json", optional=True) is None


def test_offline_a_cached_model_works(repo, monkeypatch):
    path = fetch(repo, "config.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(repo, "config.json") == path
    assert fetch(repo, "head.json", optional=True) is None
    with pytest.raises(InputError, match="is not a folder, and downloading it"):
        fetch(repo, "head.json")


@pytest.mark.parametrize(
    "name",
    [
        *("@", "@main", "a/b/c", "a" * 300, "a/" + "b" * 5000, "a\0b", "../x", "a/b@../../x", "a/b@" + "r" * 5000),
        *("a b/c", "a/b@\0", "\ud800/x", "a//b", "a\nb", "a/b@x/../y", "C:\\x\\y", " ", "/etc/hosts/x", "~nobody/x"),
    ],
)
def test_what_cannot_be_a_name_is_refused(name):
    for call in (fetch, lambda name, file: folder_of(name, [file])):
        with pytest.raises(InputError):
            call(name, "config.json")
    with pytest.raises(InputError):
        load_clip(name)
