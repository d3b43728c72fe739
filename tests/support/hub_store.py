"""The storage of the local Hub: one JSON per repository and collection, and content-addressed blobs.

Every file is written under a temporary name and renamed, so that the server can be killed at any time.
"""

import base64
import hashlib
import json
import os
import re
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path


CHUNK = 1 << 20
GIT_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
STALE_PARENT = "A commit has happened since. Please refresh and try again."


class HubError(Exception):
    """An error response of the Hub; `code` is its `X-Error-Code`, `extra` is added to the JSON body."""

    def __init__(self, status, message, code=None, *, headers=None, extra=None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.headers, self.extra = headers or {}, extra or {}


@dataclass
class Repo:
    """Branches and tags point at commits; a commit maps each of its paths to an entry (see `Store.entry`)."""

    kind: str
    id: str
    private: bool = False
    branches: dict = field(default_factory=dict)
    tags: dict = field(default_factory=dict)
    commits: dict = field(default_factory=dict)

    def resolve(self, revision):
        commit = self.branches.get(revision) or self.tags.get(revision)
        if commit or revision in self.commits:
            return commit or revision
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def files(self, revision="main"):
        return self.commits[self.resolve(revision)]["files"]

    def history(self, revision="main"):
        """Commits of a revision, newest first, each with its id."""
        oid = self.resolve(revision)
        while oid:
            yield {"id": oid} | self.commits[oid]
            oid = self.commits[oid]["parent"]

    def add_commit(self, branch, files, title, description="", author=None):
        commit = {
            "parent": self.branches.get(branch),
            "files": files,
            "title": title,
            "message": description,
            "date": now(),
            "author": author or self.id.split("/")[0],
        }
        oid = hashlib.sha1(json.dumps([self.id, commit]).encode()).hexdigest()
        self.commits[oid], self.branches[branch] = commit, oid
        return oid


class Store:
    def __init__(self, root):
        self.root, self.lock = Path(root), threading.RLock()
        for name in ("blobs", "repos", "collections", "unfinished"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for leftover in (self.root / "unfinished").iterdir():
            leftover.unlink()

    # Files

    def write(self, path, chunks, sha256=None):
        """Stream `chunks` to `path` (or to their blob) and return (sha256, size)."""
        handle, unfinished = tempfile.mkstemp(dir=self.root / "unfinished")
        digest, size = hashlib.sha256(), 0
        try:
            with os.fdopen(handle, "wb") as file:
                for chunk in chunks:
                    size += file.write(chunk)
                    digest.update(chunk)
            if sha256 not in (None, digest.hexdigest()):
                raise HubError(400, "The content does not have the announced sha256")
            Path(unfinished).replace(path or self.blob(digest.hexdigest()))
        finally:
            Path(unfinished).unlink(missing_ok=True)
        return digest.hexdigest(), size

    def write_json(self, path, content):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.write(path, [json.dumps(content).encode()])

    def blob(self, sha256):
        return self.root / "blobs" / sha256

    def entry(self, content):
        """The entry of a regular file in a commit."""
        sha256, size = self.write(None, [content])
        return {"sha256": sha256, "size": size, "oid": git_oid(content), "lfs": False}

    def lfs_entry(self, sha256):
        if not self.blob(sha256).exists():
            raise HubError(400, f"LFS object {sha256} was not uploaded")
        size = self.blob(sha256).stat().st_size
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
        return {"sha256": sha256, "size": size, "oid": git_oid(pointer.encode()), "lfs": True}

    def read_chunks(self, sha256, start, stop):
        with self.blob(sha256).open("rb") as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
                start += len(chunk)
                yield chunk

    def read(self, repo_id, path, revision="main", kind="model"):
        """The bytes of one file, for tests that look behind the API."""
        return self.blob(self.load(kind, repo_id).files(revision)[path]["sha256"]).read_bytes()

    # Repositories

    def path(self, kind, repo_id):
        return self.root / "repos" / kind / f"{repo_id}.json"

    def load(self, kind, repo_id):
        try:
            return Repo(**json.loads(self.path(kind, repo_id).read_text()))
        except FileNotFoundError:
            raise HubError(404, "Repository not found", "RepoNotFound") from None

    @contextmanager
    def changing(self, kind, repo_id):
        """The repository for an exclusive change, which is written if the block ends without an error."""
        with self.lock:
            repo = self.load(kind, repo_id)
            yield repo
            self.write_json(self.path(kind, repo_id), asdict(repo))

    def create_repo(self, kind, repo_id, private=False):
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo_id):
            raise HubError(400, f"Invalid repository name: {repo_id}")
        with self.lock:
            if self.path(kind, repo_id).exists():
                raise HubError(409, f"You already created this {kind} repo")
            repo = Repo(kind, repo_id, private)
            repo.add_commit("main", {".gitattributes": self.entry(GIT_ATTRIBUTES)}, "initial commit")
            self.write_json(self.path(kind, repo_id), asdict(repo))

    def delete_repo(self, kind, repo_id):
        self.path(kind, repo_id).unlink()

    def commit(self, kind, repo_id, branch, operations, author=None):
        """Apply the operations of one commit (dicts with `key` and `value`, as the client sends them)."""
        with self.changing(kind, repo_id) as repo:
            if branch not in repo.branches:
                raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
            files, header = dict(repo.files(branch)), {}
            for key, value in ((operation["key"], operation["value"]) for operation in operations):
                if key == "header":
                    header = value
                else:
                    self.apply(files, key, value)
            if header.get("parentCommit") not in (None, repo.branches[branch]):
                raise HubError(412, STALE_PARENT)
            return repo.add_commit(branch, files, header.get("summary", ""), header.get("description", ""), author)

    def apply(self, files, key, value):
        path = value["path"]
        if key == "file":
            files[path] = self.entry(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            files[path] = self.lfs_entry(value["oid"])
        elif key == "deletedFile" and path in files:
            del files[path]
        elif key == "deletedFolder":
            for name in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
                del files[name]
        else:
            raise HubError(404, f"{key}: {path} does not exist", "EntryNotFound")

    # Collections

    def collection_path(self, slug):
        return self.root / "collections" / f"{slug}.json"

    def load_collection(self, slug):
        try:
            return json.loads(self.collection_path(slug).read_text())
        except FileNotFoundError:
            raise HubError(404, "Collection not found") from None

    def create_collection(self, owner, title, private=False, description=None):
        name = re.sub(r"\W+", "-", title.lower()).strip("-")
        slug = f"{owner}/{name}-{hashlib.sha1(title.encode()).hexdigest()[:24]}"
        with self.lock:
            if self.collection_path(slug).exists():
                raise HubError(409, "This collection already exists", extra={"slug": slug})
            collection = {"slug": slug, "title": title, "description": description, "private": bool(private)}
            collection |= {"owner": {"name": owner, "type": "user"}, "items": [], "lastUpdated": now()}
            self.write_json(self.collection_path(slug), collection)
        return collection

    def add_collection_item(self, slug, item, note=None):
        with self.lock:
            collection = self.load_collection(slug)
            items = collection["items"]
            if any((old["id"], old["type"]) == (item["id"], item["type"]) for old in items):
                raise HubError(409, "This item is already in the collection")
            entry = {"_id": f"{len(items):024x}", "id": item["id"], "type": item["type"], "position": len(items)}
            items.append(entry | ({"note": {"text": note, "html": note}} if note else {}))
            self.write_json(self.collection_path(slug), collection | {"lastUpdated": now()})
        return collection


def git_oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def now():
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
