"""The routes of the local Hub; the function name of a route is its stage in faults and in the log."""

import json
import re
from base64 import b64decode
from urllib.parse import parse_qs

from hub_cards import as_list, card_metadata, metadata_errors
from hub_http import UNKNOWN_TOKEN, RequestHandler, route
from hub_store import HubError


class Api(RequestHandler):
    # Rights

    def user(self):
        """The user of a request; None if anonymous."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.server.users:
            raise HubError(401, UNKNOWN_TOKEN)
        return self.server.users.get(token)

    def writer(self, namespace=None):
        user = self.user()
        if user is None:
            raise HubError(401, "Invalid username or password.")
        if user.role != "write":
            raise HubError(403, "You must use a write token to upload to a repository.")
        if namespace not in (None, user.name):
            raise HubError(403, f'You don\'t have the rights to write under the namespace "{namespace}"')
        return user

    def readable(self, kind, repo_id):
        """The repository; for users without access it looks as if it did not exist."""
        user = self.user()
        try:
            repo = self.server.store.load(kind, repo_id)
            if not repo.private or (user and user.name == repo_id.split("/")[0]):
                return repo
        except HubError:
            pass
        raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")

    def writable(self, kind, repo_id):
        if self.user():
            self.readable(kind, repo_id)
        self.writer(repo_id.split("/")[0])
        return self.server.store.load(kind, repo_id)

    def changing(self, kind, repo_id):
        self.writable(kind, repo_id)
        return self.server.store.changing(kind, repo_id)

    # The account and its repositories

    @route("GET", "/api/whoami-v2")
    def whoami(self):
        user = self.user()
        if user is None:
            raise HubError(401, "Invalid username or password.")
        token = {"displayName": "tests", "role": user.role}
        account = {"type": "user", "id": user.name, "name": user.name, "fullname": user.name, "orgs": []}
        self.answer(account | {"auth": {"type": "access_token", "accessToken": token}})

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self):
        content = self.json()["content"]
        errors = [{"message": message} for message in metadata_errors(content)]
        empty = not errors and not card_metadata(content)
        warnings = [{"message": "empty or missing yaml metadata in repo card"}] if empty else []
        self.answer({"errors": errors, "warnings": warnings}, 400 if errors else 200)

    @route("POST", "/api/repos/create")
    def create_repo(self):
        request = self.json()
        user = self.writer(request.get("organization"))
        kind, repo_id = request.get("type") or "model", f"{user.name}/{request['name']}"
        url = f"{self.server.endpoint}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
        private = request.get("visibility") == "private" or bool(request.get("private"))
        try:
            self.server.store.create_repo(kind, repo_id, private)
        except HubError as error:
            error.extra["url"] = url  # the client takes it from here where the repository may exist
            raise
        self.answer({"url": url, "name": repo_id, "id": "0" * 24})

    @route("DELETE", "/api/repos/delete")
    def delete_repo(self):
        request = self.json()
        kind = request.get("type") or "model"
        repo_id = f"{request.get('organization') or self.writer().name}/{request['name']}"
        self.writable(kind, repo_id)
        self.server.store.delete_repo(kind, repo_id)
        self.answer({})

    @route("GET", "/api/{kind}s/{repo_id}/auth-check", "/api/{kind}s/{repo_id}/auth-check/{access}")
    def auth_check(self, kind, repo_id, access="read"):
        (self.writable if access == "write" else self.readable)(kind, repo_id)
        self.answer({})

    # Branches, tags, commits

    @route("GET", "/api/{kind}s/{repo_id}/refs")
    def refs(self, kind, repo_id):
        repo = self.readable(kind, repo_id)
        branches, tags = (
            [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": commit} for name, commit in table.items()]
            for folder, table in (("heads", repo.branches), ("tags", repo.tags))
        )
        self.answer({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    @route("GET", "/api/{kind}s/{repo_id}/commits/{revision}")
    def commits(self, kind, repo_id, revision):
        history = self.readable(kind, repo_id).history(revision)
        names = ("id", "title", "message", "date")
        self.answer(
            [{name: commit[name] for name in names} | {"authors": [{"user": commit["author"]}]} for commit in history]
        )

    @route("POST DELETE", "/api/{kind}s/{repo_id}/branch/{name}")
    def branch(self, kind, repo_id, name):
        start = self.json().get("startingPoint") or "main"
        with self.changing(kind, repo_id) as repo:
            self.change_ref(repo, repo.branches, name, start)
        self.answer({})

    @route("POST DELETE", "/api/{kind}s/{repo_id}/tag/{name}")
    def tag(self, kind, repo_id, name):
        tag = self.json().get("tag", name)  # the URL of a new tag names the revision that it is put on
        with self.changing(kind, repo_id) as repo:
            self.change_ref(repo, repo.tags, tag, name)
        self.answer({})

    def change_ref(self, repo, table, name, revision):
        if self.command == "DELETE":
            if table.pop(name, None) is None:
                raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
        elif name in table:
            raise HubError(409, f"Reference already exists: {name}")
        else:
            table[name] = repo.resolve(revision)

    # Reading

    @route("GET", "/api/{kind}s/{repo_id}/revision/{revision}", "/api/{kind}s/{repo_id}")
    def info(self, kind, repo_id, revision="main"):
        repo = self.readable(kind, repo_id)
        commit, files = next(repo.history(revision)), repo.files(revision)
        readme = self.server.store.blob(files["README.md"]["sha256"]).read_text() if "README.md" in files else ""
        card = card_metadata(readme) or {}
        details = {item["path"]: item if "blobs" in self.query else {} for item in listing(files)}
        info = {"_id": "0" * 24, "id": repo_id, "modelId": repo_id, "author": repo_id.split("/")[0]}
        info |= {"sha": commit["id"], "lastModified": commit["date"], "createdAt": commit["date"]}
        info |= {"private": repo.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0}
        info |= {"siblings": [{"rfilename": path, "blobId": files[path]["oid"]} | details[path] for path in details]}
        info |= {"cardData": card, "tags": as_list(card.get("tags"))}
        self.answer(info | {name: card.get(name) for name in ("library_name", "pipeline_tag")})

    @route("GET", "/api/{kind}s/{repo_id}/tree/{revision}", "/api/{kind}s/{repo_id}/tree/{revision}/{path}")
    def tree(self, kind, repo_id, revision, path=""):
        inside = path.rstrip("/") + "/" if path else ""
        entries = listing(self.readable(kind, repo_id).files(revision), folders=True)
        found = [entry for entry in entries if entry["path"].startswith(inside)]
        if path and not found:
            raise HubError(404, f"{path} does not exist", "EntryNotFound")
        if self.query.get("recursive", "").lower() not in ("true", "1"):
            found = [entry for entry in found if "/" not in entry["path"].removeprefix(inside)]
        self.answer(found)

    @route("POST", "/api/{kind}s/{repo_id}/paths-info/{revision}")
    def paths_info(self, kind, repo_id, revision):
        paths = {path.rstrip("/") for path in parse_qs(b"".join(self.body).decode()).get("paths", [])}
        entries = listing(self.readable(kind, repo_id).files(revision), folders=True)
        self.answer([entry for entry in entries if entry["path"] in paths])

    @route("GET HEAD", "/{repo_id}/resolve/{revision}/{path}", "/{kind}s/{repo_id}/resolve/{revision}/{path}")
    def resolve(self, repo_id, revision, path, kind="model"):
        repo = self.readable(kind, repo_id)
        commit = {"X-Repo-Commit": repo.resolve(revision)}
        entry = repo.files(revision).get(path)
        if entry is None:
            raise HubError(404, "Entry not found", "EntryNotFound", headers=commit)
        etag, size = f'"{entry["sha256" if entry["lfs"] else "oid"]}"', entry["size"]
        headers = commit | {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if entry["lfs"]:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(size)}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = (int(part[1]), min(int(part[2] or size - 1) + 1, size)) if part else (0, size)
        if part and start >= size:
            raise HubError(416, "Range Not Satisfiable", headers={"Content-Range": f"bytes */{size}"})
        headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if part else {}
        content = self.server.store.read_chunks(entry["sha256"], start, stop)
        self.send(206 if part else 200, headers, stop - start, content)

    # Writing

    @route("POST", "/api/{kind}s/{repo_id}/preupload/{revision}")
    def preupload(self, kind, repo_id, revision):
        files, answers = self.writable(kind, repo_id).files(revision), []
        for file in self.json()["files"]:
            path, old = file["path"], files.get(file["path"])
            mode = "lfs" if self.is_large(file) else "regular"
            oid = old["sha256" if old["lfs"] else "oid"] if old else None
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer({"files": answers})

    def is_large(self, file):
        threshold = self.server.lfs_threshold
        return threshold is not None and file["size"] >= threshold and not file["path"].endswith(".md")

    @route("POST", "/api/{kind}s/{repo_id}/commit/{revision}")
    def commit(self, kind, repo_id, revision):
        author = self.writable(kind, repo_id) and self.user().name
        if "create_pr" in self.query:
            raise HubError(400, "There are no pull requests here")
        operations = [json.loads(line) for line in b"".join(self.body).splitlines() if line.strip()]
        for value in (operation["value"] for operation in operations if operation["key"] == "file"):
            if value["path"] == "README.md" and (errors := metadata_errors(b64decode(value["content"]).decode())):
                raise HubError(400, errors[0])
        oid = self.server.store.commit(kind, repo_id, revision, operations, author)
        self.answer({"success": True, "commitOid": oid, "commitUrl": f"{self.server.endpoint}/{repo_id}/commit/{oid}"})

    @route("POST", "/{repo_id}.git/info/lfs/objects/batch", "/{kind}s/{repo_id}.git/info/lfs/objects/batch")
    def lfs_batch(self, repo_id, kind="model"):
        self.writable(kind, repo_id)
        objects = [{"oid": item["oid"], "size": item["size"]} for item in self.json()["objects"]]
        for item in objects:
            if not self.server.store.blob(item["oid"]).exists():
                href = f"{self.server.endpoint}/lfs/{item['oid']}"
                item["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        self.answer({"transfer": "basic", "objects": objects})

    @route("PUT", "/lfs/{sha256}")
    def lfs_put(self, sha256):
        self.server.store.write(None, self.body, sha256)
        self.send(200, {}, 0, [])

    @route("POST", "/lfs/{sha256}/verify")
    def lfs_verify(self, sha256):
        self.writer()
        if self.server.store.lfs_entry(sha256)["size"] != self.json()["size"]:
            raise HubError(400, "The size is not the announced one")
        self.answer({})

    # Collections

    @route("POST", "/api/collections")
    def create_collection(self):
        request = self.json()
        owner = self.writer(request["namespace"]).name
        fields = (request.get(name) for name in ("private", "description"))
        self.show(self.server.store.create_collection(owner, request["title"], *fields))

    @route("GET DELETE", "/api/collections/{slug}")
    def collection(self, slug):
        collection = self.server.store.load_collection(slug)
        user, owner = self.user(), collection["owner"]["name"]
        if collection["private"] and (user is None or user.name != owner):
            raise HubError(404, "Collection not found")
        if self.command == "DELETE":
            self.writer(owner)
            self.server.store.collection_path(slug).unlink()
        self.show(collection)

    @route("POST", "/api/collections/{slug}/items")
    def add_collection_item(self, slug):
        request = self.json()
        self.writer(slug.split("/")[0])
        item = request["item"]
        if item["type"] in ("model", "dataset", "space"):
            self.readable(item["type"], item["id"])
        self.show(self.server.store.add_collection_item(slug, item, request.get("note")))

    def show(self, collection):
        self.answer({"position": 0, "theme": "indigo", "upvotes": 0} | collection)


def listing(files, folders=False):
    """Entries as in the tree, sorted by path; `folders` adds their parent folders."""
    names = (
        {path.rsplit("/", depth)[0] for path in files for depth in range(1, path.count("/") + 1)} if folders else ()
    )
    entries = [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in names]
    for path, file in files.items():
        entry = {"type": "file", "path": path, "size": file["size"], "oid": file["oid"]}
        lfs = {"oid": file["sha256"], "sha256": file["sha256"], "size": file["size"], "pointerSize": 134}
        entries.append(entry | ({"lfs": lfs} if file["lfs"] else {}))
    return sorted(entries, key=lambda entry: entry["path"])
