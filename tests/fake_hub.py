"""A hub on this machine, of one data set with a few commits, that can be told to answer otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class FakeHub:
    """`files` of each commit by name, the newest commit last. `GET /set/STATUS/WHAT` has it answer so: `all` that is
    asked, what is asked of `files` alone, or that the set is `missing`; status 0 ends that.
    """

    def __init__(self, name: str, files: Mapping[str, Mapping[str, str]]) -> None:
        self.name, self.files = name, files
        self.answer: tuple[int, str] | None = None
        self.asked: list[str] = []
        self.tokens: list[str | None] = []
        self.url = ""

    def files_asked(self, commit: str) -> int:
        return sum(asked.startswith("GET /datasets/") and f"/{commit}/" in asked for asked in self.asked)

    def commit(self, revision: str | None) -> str | None:
        if revision in (None, "main"):
            return [*self.files][-1]
        return next((commit for commit in self.files if commit.startswith(revision or "")), None)


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(*self._found())

        do_HEAD = do_GET  # noqa: N815

        def do_POST(self) -> None:
            given = self.rfile.read(int(self.headers.get("content-length") or 0))
            self._answer(*self._found(given))

        def _found(self, given: bytes = b"") -> tuple[int, bytes, dict[str, str]]:
            path = self.path.partition("?")[0]
            hub.asked.append(f"{self.command} {path}")
            hub.tokens.append(self.headers.get("authorization"))
            if path.startswith("/set/"):
                _, _, status, what = path.split("/")
                hub.answer = None if status == "0" else (int(status), what)
                return 200, b"{}", {}
            if hub.answer is not None and (hub.answer[1] != "files" or path.startswith("/datasets/")):
                codes = {(403, "files"): "GatedRepo", (401, "missing"): "RepoNotFound"}
                return hub.answer[0], b'{"error": "as told"}', {"X-Error-Code": codes.get(hub.answer, "None")}
            if info := re.fullmatch(rf"/api/datasets/{hub.name}(/revision/([^/]+))?", path):
                commit = hub.commit(info[2])
                siblings = [{"rfilename": name} for name in hub.files.get(commit or "", ())]
                told = {"id": hub.name, "sha": commit, "siblings": siblings, "private": False, "gated": False,
                        "disabled": False, "downloads": 0, "likes": 0, "tags": []}  # fmt: skip
                return self._of(commit, told)
            if tree := re.fullmatch(rf"/api/datasets/{hub.name}/(tree|paths-info)/([^/]+)(/.*)?", path):
                commit = hub.commit(tree[2])
                files = [_entry(name, text) for name, text in hub.files.get(commit or "", {}).items()]
                if tree[1] == "paths-info":
                    files = [one for one in files if one["path"] in given.decode()]
                return self._of(commit, files if not tree[3] else [])
            if held := re.fullmatch(rf"/datasets/{hub.name}/resolve/([^/]+)/(.+)", path):
                commit = hub.commit(held[1])
                text = hub.files.get(commit or "", {}).get(held[2])
                if text is None:
                    return 404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": str(commit)}
                return 200, text.encode(), {"ETag": f'"{_oid(text)}"', "X-Repo-Commit": str(commit)}
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}

        def _of(self, commit: str | None, told: Any) -> tuple[int, bytes, dict[str, str]]:
            if commit is None:
                return 404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"}
            return 200, json.dumps(told).encode(), {"Content-Type": "application/json"}

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler


def _oid(text: str) -> str:
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


def _entry(name: str, text: str) -> dict[str, Any]:
    return {"type": "file", "path": name, "size": len(text.encode()), "oid": _oid(text)}


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
