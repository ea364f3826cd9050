"""A server on loopback with as much of the Hugging Face hub as huggingface_hub asks for when it fetches datasets."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Files = dict[str, bytes]  # path in a repository -> content


class FakeHub(ThreadingHTTPServer):
    """Repositories of datasets, each with branches. ``asked`` lists what was requested."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.branches: dict[str, dict[str, str]] = {}  # repository -> branch -> commit
        self.commits: dict[tuple[str, str], Files] = {}
        self.gated: set[str] = set()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def push(self, repo: str, files: Files, branch: str = "main") -> str:
        """Make ``files`` the content of a branch. The commit's hash."""
        commit = hashlib.sha1(f"{repo} {branch} {sorted(files.items())}".encode()).hexdigest()
        self.branches.setdefault(repo, {})[branch] = commit
        self.commits[repo, commit] = files
        return commit

    def fetched(self) -> list[str]:
        """The files that were downloaded since the last call, sorted."""
        files = sorted(path.split("/", 6)[6] for path in self.asked if path.startswith("GET /datasets/"))
        self.asked.clear()
        return files


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        # /api/datasets/OWNER/NAME[/revision/REVISION], /api/datasets/OWNER/NAME/tree/COMMIT, /datasets/OWNER/NAME/resolve/COMMIT/FILE
        self.server.asked.append(f"{self.command} {unquote(urlsplit(self.path).path)}")
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        kind, parts = ("api", parts[2:]) if parts[0] == "api" else ("file", parts[1:])
        repo, rest = "/".join(parts[:2]), parts[2:]
        if repo not in self.server.branches:
            return self.refuse(401, "RepoNotFound")
        revision = rest[1] if rest else "main"
        commit = self.server.branches[repo].get(revision, revision)
        files = self.server.commits.get((repo, commit))
        if files is None:
            return self.refuse(404, "RevisionNotFound")
        if kind == "api" and rest[:1] == ["tree"]:
            listed = [{"type": "file", "path": path, "size": len(files[path]), "oid": _oid(files[path])} for path in files]
            return self.answer(json.dumps(listed).encode())
        if kind == "api":
            return self.answer(json.dumps({"id": repo, "sha": commit, "siblings": [], "tags": []}).encode())
        path = "/".join(rest[2:])
        if repo in self.server.gated:
            return self.refuse(403, "GatedRepo")
        if path not in files:
            return self.refuse(404, "EntryNotFound")
        self.answer(files[path], {"ETag": f'"{_oid(files[path])}"', "X-Repo-Commit": commit})

    do_HEAD = do_GET

    def answer(self, content: bytes, headers: dict[str, str] | None = None, status: int = 200):
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def refuse(self, status: int, code: str):
        self.answer(b"{}", {"X-Error-Code": code}, status)

    def log_message(self, *_):
        pass


def _oid(content: bytes) -> str:
    """Git's hash of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
