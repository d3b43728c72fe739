import hashlib
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import CommitOperationDelete, HfApi, ModelCard, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from PIL import Image
from transformers import CLIPModel, pipeline

from hub_cards import metadata_errors
from hub_server import Fault, HubServer


REPO = "tester/clip"
METADATA = {"license": "mit", "pipeline_tag": "zero-shot-image-classification", "tags": "[clip]"}
HTTP_ERROR = HfHubHTTPError.__bases__[0]  # depends on the client's HTTP library


def card(**fields):
    lines = [f"{key.replace('__', '-')}: {value}" for key, value in (METADATA | fields).items()]
    return "\n".join(["---", *lines, "---", "# A card"])


@pytest.fixture
def api(hub):
    """The real client, and an empty repository."""
    api = HfApi()
    api.create_repo(REPO)
    return api


@pytest.fixture
def naps(monkeypatch):
    """The delays of the client before its retries."""
    naps = []
    clock = SimpleNamespace(sleep=naps.append, time=time.time, monotonic=time.monotonic)
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)
    return naps


@pytest.fixture
def lfs(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.lfs_threshold = 1000


def upload(api, content=b"hello", path="file.txt", **options):
    return api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=REPO, **options)


def statuses(hub, stage):
    return [call.status for call in hub.calls(stage)]


def test_a_model_on_branches_is_what_was_pushed(hub, api, model, model_folder, tmp_path):
    api.create_repo(REPO, exist_ok=True)
    for branch in ("alpha-0.00", "alpha-0.50"):
        api.create_branch(REPO, branch=branch)
        api.create_branch(REPO, branch=branch, exist_ok=True)
        api.upload_folder(repo_id=REPO, folder_path=model_folder, revision=branch)
    upload(api, card().encode(), "README.md", revision="alpha-0.50")
    commits = len(hub.calls("commit"))
    api.upload_folder(repo_id=REPO, folder_path=model_folder, revision="alpha-0.50")
    assert len(hub.calls("commit")) == commits

    loaded = CLIPModel.from_pretrained(REPO, revision="alpha-0.50").state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
    classify = pipeline("zero-shot-image-classification", model=REPO, revision="alpha-0.50")
    assert len(classify(Image.new("RGB", (40, 40)), candidate_labels=["red", "green"])) == 2
    assert ModelCard.load(hf_hub_download(REPO, "README.md", revision="alpha-0.50")).data.license == "mit"
    folder = Path(snapshot_download(REPO, revision="alpha-0.50"))
    assert folder.is_relative_to(tmp_path)
    for file in Path(model_folder).iterdir():
        assert (folder / file.name).read_bytes() == file.read_bytes()
    assert not api.file_exists(REPO, "model.safetensors", revision="main")


def test_refs_commits_and_trees(api):
    first = upload(api, path="a/b/one.txt").oid
    api.create_tag(REPO, tag="v1")
    api.create_branch(REPO, branch="old", revision="v1")
    second = upload(api, b"more", "a/two.txt").oid
    refs = api.list_repo_refs(REPO)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "old": first}
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first)]
    assert [commit.commit_id for commit in api.list_repo_commits(REPO)][:2] == [second, first]
    assert api.model_info(REPO, revision="old").sha == first
    assert {item.path for item in api.list_repo_tree(REPO, "a")} == {"a/b", "a/two.txt"}
    assert set(api.list_repo_files(REPO)) == {".gitattributes", "a/b/one.txt", "a/two.txt"}
    info = api.get_paths_info(REPO, ["a", "a/two.txt", "absent"])
    assert [(item.path, getattr(item, "size", None)) for item in info] == [("a", None), ("a/two.txt", 4)]
    # from `git hash-object` of a file that contains "more"
    assert info[1].blob_id == "aa1005acb1e9b69476651938d2affc159bb8b6e6"
    api.create_commit(REPO, [CommitOperationDelete("a/", is_folder=True)], commit_message="without a")
    assert api.list_repo_files(REPO) == [".gitattributes"]
    api.delete_tag(REPO, tag="v1")
    api.delete_branch(REPO, branch="old")
    api.delete_repo(REPO)
    assert not api.repo_exists(REPO)


@pytest.mark.parametrize(
    ("call", "error", "status"),
    [
        (lambda api: HfApi(token="hf_none").whoami(), HfHubHTTPError, 401),
        (lambda api: HfApi(token=False).create_repo("tester/other"), HfHubHTTPError, 401),
        (lambda api: HfApi(token="hf_read").create_repo("tester/other"), HfHubHTTPError, 403),
        (lambda api: HfApi(token="hf_read").create_branch(REPO, branch="b"), HfHubHTTPError, 403),
        (lambda api: upload(HfApi(token="hf_other")), HfHubHTTPError, 403),
        (lambda api: HfApi(token="hf_read").auth_check(REPO, write=True), HfHubHTTPError, 403),
        (lambda api: api.create_repo("other/clip"), HfHubHTTPError, 403),
        (lambda api: api.create_repo(REPO), HfHubHTTPError, 409),
        (lambda api: api.create_branch(REPO, branch="main"), HfHubHTTPError, 409),
        (lambda api: upload(api, parent_commit="0" * 40), HfHubHTTPError, 412),
        (lambda api: upload(api, create_pr=True), BadRequestError, 400),
        (lambda api: api.model_info("tester/none"), RepositoryNotFoundError, 404),
        (lambda api: HfApi(token=False).model_info("tester/none"), RepositoryNotFoundError, 401),
        (lambda api: api.model_info(REPO, revision="none"), RevisionNotFoundError, 404),
        (lambda api: upload(api, revision="none"), RevisionNotFoundError, 404),
        (lambda api: hf_hub_download(REPO, "none"), EntryNotFoundError, 404),
    ],
)
def test_refusals(api, call, error, status):
    with pytest.raises(error) as caught:
        call(api)
    assert caught.value.response.status_code == status


def test_a_private_repository_is_its_owners(api):
    api.create_repo("tester/secret", private=True)
    assert api.whoami()["name"] == "tester"
    assert api.model_info("tester/secret").private
    api.auth_check("tester/secret", write=True)
    assert HfApi(token="hf_read").repo_exists("tester/secret")
    assert not HfApi(token="hf_other").repo_exists("tester/secret")
    assert not HfApi(token=False).repo_exists("tester/secret")


def test_collections(hub, api):
    collection = api.create_collection("Patched models")
    assert api.create_collection("Patched models", exists_ok=True).slug == collection.slug
    api.add_collection_item(collection.slug, REPO, "model", note="alpha 0.5")
    api.add_collection_item(collection.slug, REPO, "model", exists_ok=True)
    items = api.get_collection(collection.slug).items
    assert [(item.item_id, item.note) for item in items] == [(REPO, "alpha 0.5")]
    with pytest.raises(HfHubHTTPError, match="404"):
        api.add_collection_item(collection.slug, "tester/none", "model")
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(token="hf_other").add_collection_item(collection.slug, REPO, "model")
    api.delete_collection(collection.slug)
    assert statuses(hub, "create_collection") == [200, 409]


RESULT = "{task: {type: t}, dataset: {type: d, name: D}, metrics: [{type: accuracy, value: 0.5}]}"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, None),
        ({"base_model": "[a/b, c/d]", "base_model_relation": "merge", "datasets": "[mnist, a/b]"}, None),
        ({"model__index": f"[{{name: m, results: [{RESULT}]}}]"}, None),
        ({"license": "[mit]"}, '"license" must be a string'),
        ({"license": "MIT License"}, '"license" must be one of'),
        ({"tags": "clip"}, '"tags" must be an array'),
        ({"datasets": "mnist"}, '"datasets" must be an array'),
        ({"tags": "[1.0]"}, '"tags" must contain strings only'),
        ({"pipeline_tag": "zero-shot"}, '"pipeline_tag" must be one of'),
        ({"base_model_relation": "patch"}, '"base_model_relation" must be one of'),
        ({"base_model": "/home/me/base"}, '"base_model" with value "/home/me/base" is not valid'),
        ({"model__index": "{name: m}"}, '"model-index" must be an array'),
        ({"model__index": "[{results: []}]"}, '"model-index[0].name" is required'),
        (
            {"model__index": f"[{{name: m, results: [{RESULT.replace(', name: D', '')}]}}]"},
            '"model-index[0].results[0].dataset.name" is required',
        ),
        ({"tags": "[clip"}, "YAML"),
    ],
)
def test_card_metadata(fields, complaint):
    errors = metadata_errors(card(**fields))
    assert [complaint in error for error in errors] == ([True] if complaint else [])


def test_a_bad_card_is_refused_before_the_upload_and_with_it(hub, api, monkeypatch):
    with pytest.raises(ValueError, match='"license" must be a string'):
        upload(api, card(license="[mit]").encode(), "README.md")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        upload(api, b"# no metadata", "README.md")
    assert statuses(hub, "validate_yaml") == [400, 200]
    monkeypatch.setattr(HfApi, "_validate_yaml", lambda *_, **__: None)
    with pytest.raises(BadRequestError, match='"tags" must be an array'):
        upload(api, card(tags="clip").encode(), "README.md")


LARGE = """
import sys
from huggingface_hub import HfApi, hf_hub_download
folder, repo = sys.argv[1:]
for _ in range(2):
    HfApi().upload_folder(repo_id=repo, folder_path=folder)
print(hf_hub_download(repo, "model.bin"))
"""


def test_large_files_are_streamed_through_lfs_by_another_process(hub, api, tmp_path):
    hub.lfs_threshold = 1000
    (tmp_path / "folder").mkdir()
    content = os.urandom(1 << 20) * 48
    (tmp_path / "folder" / "model.bin").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    del content
    command = [sys.executable, "-c", LARGE, str(tmp_path / "folder"), REPO]
    tracemalloc.start()
    run = subprocess.run(command, env=os.environ | hub.environment(), capture_output=True, text=True, check=True)
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()
    with Path(run.stdout.strip()).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    assert [call.body for call in hub.calls("lfs_put")] == [48 << 20]
    assert statuses(hub, "commit") == statuses(hub, "lfs_verify") == [200]
    assert api.get_paths_info(REPO, "model.bin")[0].lfs.sha256 == digest


def test_a_client_killed_while_it_uploads_has_done_nothing(hub, api, tmp_path):
    hub.lfs_threshold = 1000
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model.bin").write_bytes(os.urandom(32 << 20))
    command = [sys.executable, "-c", LARGE, str(tmp_path / "folder"), REPO]
    client = subprocess.Popen(command, env=os.environ | hub.environment(), stderr=subprocess.DEVNULL)
    hub.on_request = lambda stage: client.kill() if stage == "lfs_put" else None
    assert client.wait() == -signal.SIGKILL
    for _ in range(3000):  # until the server has noticed
        if hub.calls("lfs_put"):
            break
        time.sleep(0.02)
    assert statuses(hub, "lfs_put") == [None]
    assert api.list_repo_files(REPO) == [".gitattributes"]
    assert not list((hub.store.root / "unfinished").iterdir())


def test_a_killed_server_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    script = str(Path(__file__).with_name("hub_server.py"))
    server = subprocess.Popen([sys.executable, script, "--root", str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with server, server.stdout:
        api = HfApi(endpoint=server.stdout.readline().strip().removeprefix("HF_ENDPOINT="), token="hf_test")
        api.create_repo(REPO)
        oid = upload(api).oid
        server.send_signal(signal.SIGKILL)
    (tmp_path / "unfinished" / "half").write_bytes(b"half a fi")
    with HubServer(tmp_path) as hub:
        assert HfApi(endpoint=hub.endpoint).model_info(REPO).sha == oid
        assert not list((tmp_path / "unfinished").iterdir())


@pytest.mark.parametrize("kind", [401, 403, 500, "disk_full"])
def test_a_fault_answers_its_status_and_changes_nothing(hub, api, kind):
    hub.faults = [Fault(kind, when="branch")]
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_branch(REPO, branch="b")
    assert caught.value.response.status_code == (507 if kind == "disk_full" else kind)
    api.create_branch(REPO, branch="b")


def test_faults_count_the_calls_of_their_stage(hub, api):
    stages = []
    hub.on_request = stages.append
    hub.faults = [Fault("500", when="who*", nth=2, times=2)]
    for _ in range(4):
        api.repo_exists(REPO)
        with suppress(HfHubHTTPError):
            api.whoami()
    assert statuses(hub, "whoami") == [200, 500, 500, 200]
    assert stages.count("whoami") == stages.count("info") == 4
    with pytest.raises(ValueError, match="unknown kind of fault '501'"):
        Fault(501)


def test_the_client_tries_again_after_500_and_429(hub, api, naps):
    hub.faults = [Fault(500, when="preupload"), Fault(429, when="preupload", nth=2, seconds=7)]
    upload(api)
    assert statuses(hub, "preupload") == [500, 429, 200]
    assert len(naps) == 2
    assert naps[1] >= 7


def test_a_cut_request_does_nothing_and_a_cut_answer_everything(hub, api):
    hub.faults = [Fault("cut", when="commit")]
    with pytest.raises(HTTP_ERROR):
        upload(api)
    assert not api.file_exists(REPO, "file.txt")
    assert hub.calls("commit")[0].body > 0
    hub.faults = [Fault("cut", when="commit", part="response")]
    with pytest.raises(HTTP_ERROR):
        upload(api)
    assert api.file_exists(REPO, "file.txt")
    assert statuses(hub, "commit") == [None, None]


def test_a_cut_upload_leaves_nothing_and_is_sent_again(hub, api, lfs, naps):
    hub.faults = [Fault("cut", when="lfs_put"), Fault(507, when="lfs_put", nth=3)]
    content = os.urandom(3 << 20)
    upload(api, content, "model.bin")
    first, second = hub.calls("lfs_put")
    assert (first.body, first.status) == (len(content) // 2, None)
    assert (second.body, second.status) == (len(content), 200)
    assert hub.store.read(REPO, "model.bin") == content
    with pytest.raises(RuntimeError, match=r"other\.bin"):
        upload(api, content[::-1], "other.bin")
    assert not list((hub.store.root / "unfinished").iterdir())
    assert not hub.store.blob(hashlib.sha256(content[::-1]).hexdigest()).exists()


def test_a_cut_download_goes_on_where_it_ended(hub, api, lfs, naps, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 20)
    content = os.urandom(3 << 20)
    upload(api, content, "model.bin")
    hub.faults = [Fault("cut", when="resolve", method="GET")]
    assert Path(hf_hub_download(REPO, "model.bin")).read_bytes() == content
    assert [call.status for call in hub.calls("resolve") if call.method == "GET"] == [None, 206]


def test_somebody_else_commits_first(hub, api):
    parent = upload(api).oid
    hub.faults = [Fault(412, when="commit")]
    with pytest.raises(HfHubHTTPError, match="412"):
        upload(api, b"mine", parent_commit=parent)
    newest, before = api.list_repo_commits(REPO)[:2]
    assert (newest.authors, before.commit_id) == (["other"], parent)
    with pytest.raises(HfHubHTTPError, match="412"):
        upload(api, b"mine", parent_commit=parent)
    upload(api, b"mine", parent_commit=newest.commit_id)
    assert hub.store.read(REPO, "file.txt") == b"mine"


def test_a_slow_answer_comes(hub, api):
    hub.faults = [Fault("slow", when="refs", seconds=0.2)]
    start = time.perf_counter()
    api.list_repo_refs(REPO)
    assert time.perf_counter() - start >= 0.2
