import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import (
    CommitOperationAdd,
    HfApi,
    ModelCard,
    constants,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from PIL import Image
from transformers import CLIPModel, pipeline

from hub_server import Fault, HubServer


REPO = "tester/clip"
CARD = "---\nlicense: mit\npipeline_tag: zero-shot-image-classification\ntags: [clip]\n---\n# A card\n"


@pytest.fixture
def repo(hub):
    HfApi().create_repo(REPO)
    return hub


def test_a_model_on_branches_is_what_was_pushed(repo, model, model_folder, tmp_path):
    api = HfApi()
    assert api.whoami()["name"] == "tester"
    api.create_repo(REPO, exist_ok=True)
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "README.md").write_text(CARD)
    for branch in ("alpha-0.00", "alpha-0.50"):
        api.create_branch(REPO, branch=branch)
        api.create_branch(REPO, branch=branch, exist_ok=True)
        api.upload_folder(repo_id=REPO, folder_path=model_folder, revision=branch)
        api.upload_folder(repo_id=REPO, folder_path=tmp_path / "card", revision=branch)
    before = len(repo.calls("commit"))
    api.upload_folder(repo_id=REPO, folder_path=model_folder, revision=branch)
    assert len(repo.calls("commit")) == before
    refs = api.list_repo_refs(REPO)
    assert {ref.name for ref in refs.branches} == {"main", "alpha-0.00", "alpha-0.50"}

    loaded = CLIPModel.from_pretrained(REPO, revision="alpha-0.50")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    classify = pipeline("zero-shot-image-classification", model=REPO, revision="alpha-0.50")
    assert len(classify(Image.new("RGB", (40, 40)), candidate_labels=["red", "green"])) == 2
    assert ModelCard.load(hf_hub_download(REPO, "README.md", revision="alpha-0.50")).data.license == "mit"
    folder = snapshot_download(REPO, revision="alpha-0.50")
    assert folder.startswith(str(tmp_path))
    for name in os.listdir(model_folder):
        with open(f"{folder}/{name}", "rb") as one, open(f"{model_folder}/{name}", "rb") as other:
            assert one.read() == other.read()
