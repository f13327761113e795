"""Serve a registry on 127.0.0.1:5000 with one image, "zeros". It holds argv[1] bytes of zeros, compressed."""

import gzip
import hashlib
import http.server
import io
import json
import sys
import tarfile

size = int(sys.argv[1])


def tar_parts():
    entry = tarfile.TarInfo("zeros")
    entry.size = size
    yield entry.tobuf()
    for left in range(size, 0, -(2**20)):
        yield bytes(min(2**20, left))
    yield bytes(-size % 512 + 1024)


compressed, whole = io.BytesIO(), hashlib.sha256()
with gzip.GzipFile(fileobj=compressed, mode="wb", compresslevel=1, mtime=0) as file:
    for part in tar_parts():
        file.write(part)
        whole.update(part)


def descriptor(content, kind):
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    blobs[digest] = (content, kind)
    return {"mediaType": kind, "size": len(content), "digest": digest}


TYPE = "application/vnd.docker.distribution.manifest.v2+json"
blobs = {}
config = {"architecture": "amd64", "os": "linux", "config": {}}
config["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{whole.hexdigest()}"]}
manifest = {
    "schemaVersion": 2,
    "mediaType": TYPE,
    "config": descriptor(json.dumps(config).encode(), "application/vnd.docker.container.image.v1+json"),
    "layers": [descriptor(compressed.getvalue(), "application/vnd.docker.image.rootfs.diff.tar.gzip")],
}
latest = descriptor(json.dumps(manifest).encode(), TYPE)["digest"]


class RegistryHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rpartition("/")[2]
        content, kind = blobs.get(latest if name == "latest" else name, (b"{}", "application/json"))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if kind == TYPE:
            self.send_header("Docker-Content-Digest", latest)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def do_HEAD(self):
        self.do_GET()


http.server.ThreadingHTTPServer(("127.0.0.1", 5000), RegistryHandler).serve_forever()
