"""A stand-in for the Hugging Face hub's HTTP interface on loopback: what its client calls to make a repository, to
commit to it, by Git LFS too, and to fetch files."""

import base64
import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse

TOKEN = "hf_secret_of_the_test"


class Hub:
    """Repositories by name, files by path.

    `sizes` are told in place of the true ones; a hub that is `full` takes no large files.
    """

    def __init__(self):
        self.repositories, self.blobs, self.calls, self.private = {}, {}, [], {}
        self.sizes, self.full = {}, False


def handler(hub):
    """The class that answers for it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def answer(self, status, content=None, headers=None, error=None):
            body = (
                content if isinstance(content, bytes) else json.dumps(content if content is not None else {}).encode()
            )
            self.send_response(status)
            for name, value in {"Content-Length": len(body), **(headers or {})}.items():
                self.send_header(name, str(value))
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def body(self):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def parts(self):
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            hub.calls.append((self.command, path))
            return path.strip("/").split("/")

        def allowed(self):
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                return True
            self.answer(401, {"error": "Invalid username or password."})
            return False

        def do_POST(self):
            parts, body = self.parts(), self.body()
            if not self.allowed():
                return None
            if parts == ["api", "repos", "create"]:
                wanted = json.loads(body)
                name = f"{wanted['organization']}/{wanted['name']}"
                if name in hub.repositories:
                    url = f"{self.origin()}/{name}"
                    return self.answer(409, {"error": "You already created this model repo", "url": url})
                hub.repositories[name], hub.private[name] = {}, wanted.get("visibility", wanted.get("private"))
                return self.answer(200, {"url": f"{self.origin()}/{name}"})
            if parts == ["api", "validate-yaml"]:
                content = json.loads(body)["content"]
                ok = content.startswith("---\nlicense: ")
                return self.answer(
                    200 if ok else 400, {"errors": [] if ok else [{"message": "no licence"}], "warnings": []}
                )
            name = "/".join(parts[2:4]) if parts[0] == "api" else "/".join(parts[:2]).removesuffix(".git")
            if name not in hub.repositories:
                return self.answer(404, {"error": "Repository not found"}, error="RepoNotFound")
            if parts[4:5] == ["preupload"]:
                files = json.loads(body)["files"]
                mode = {True: "lfs", False: "regular"}
                listed = [
                    {"path": f["path"], "uploadMode": mode[f["path"].endswith(".safetensors")], "shouldIgnore": False}
                    for f in files
                ]
                return self.answer(200, {"files": listed})
            if parts[2:] == ["info", "lfs", "objects", "batch"]:
                objects = [
                    {
                        "oid": o["oid"],
                        "size": o["size"],
                        "actions": {"upload": {"href": f"{self.origin()}/lfs/{o['oid']}"}},
                    }
                    for o in json.loads(body)["objects"]
                ]
                return self.answer(200, {"transfer": "basic", "objects": objects})
            if parts[4:5] == ["commit"]:
                for line in map(json.loads, body.splitlines()):
                    value = line["value"]
                    if line["key"] == "file":
                        hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
                    elif line["key"] == "lfsFile":
                        hub.repositories[name][value["path"]] = hub.blobs[value["oid"]]
                commit = "c" * 40
                return self.answer(200, {"commitUrl": f"{self.origin()}/{name}/commit/{commit}", "commitOid": commit})
            return self.answer(404)

        def do_PUT(self):
            parts, body = self.parts(), self.body()
            if hub.full or hashlib.sha256(body).hexdigest() != parts[1]:
                return self.answer(400)
            hub.blobs[parts[1]] = body
            return self.answer(200)

        def do_GET(self):
            parts = self.parts()
            if parts[:2] == ["api", "models"]:
                name = "/".join(parts[2:4])
                if name not in hub.repositories:
                    return self.answer(404, {"error": "Repository not found"}, error="RepoNotFound")
                if parts[4:5] == ["revision"] and parts[5] not in ("main", "c" * 40):
                    return self.answer(404, {"error": "Invalid rev id"}, error="RevisionNotFound")
                files = [
                    {"rfilename": path, "size": hub.sizes.get(path, len(content))}
                    for path, content in hub.repositories[name].items()
                ]
                return self.answer(200, {"id": name, "sha": "c" * 40, "siblings": files})
            name, path = "/".join(parts[:2]), "/".join(parts[4:])
            content = hub.repositories.get(name, {}).get(path)
            if parts[2:3] != ["resolve"] or content is None:
                return self.answer(404, {"error": "Entry not found"}, error="EntryNotFound")
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": "c" * 40}
            return self.answer(200, content, headers)

        do_HEAD = do_GET

        def origin(self):
            return f"http://127.0.0.1:{self.server.server_port}"

    return Handler


@contextlib.contextmanager
def running():
    """A hub that answers, and its address."""
    hub = Hub()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(hub)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield hub, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
