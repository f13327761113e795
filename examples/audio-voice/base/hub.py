"""Stand for a hub of models: serve the files that a list names, with zeros in them. It can resume, as real hubs can.

hub.py models.json [PORT]
"""

from __future__ import annotations

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

CHUNK = bytes(2**16)


class HubHandler(BaseHTTPRequestHandler):
    sizes: ClassVar[dict[str, int]] = {}  # path → bytes

    def do_GET(self) -> None:
        size = self.sizes.get(self.path.lstrip("/"))
        if size is None:
            self.send_error(404)
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted else 0
        if start >= size:
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(size - start))
        self.end_headers()
        for left in range(size - start, 0, -len(CHUNK)):
            self.wfile.write(CHUNK[:left])


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        HubHandler.sizes = {each["path"]: each["bytes"] for each in json.load(file)["models"]}
    ThreadingHTTPServer(("", int(sys.argv[2]) if len(sys.argv) > 2 else 8000), HubHandler).serve_forever()


if __name__ == "__main__":
    main()
