"""The speech service: GET /speak?text=hello answers with a WAV file, GET /health says that the model is loaded.

server.py --check is the health check: it asks the service, and ends with 0 if the service is well.
"""

from __future__ import annotations

import sys
import tempfile
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PORT = 8000
MODEL = "tts_models/multilingual/multi-dataset/xtts_v2"
LONGEST = 1000  # characters of a text


class SpeechHandler(BaseHTTPRequestHandler):
    model: Any

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        if place.path == "/health":
            self._answer("text/plain", b"ok\n")
        elif place.path == "/speak":
            text = parse_qs(place.query).get("text", [""])[0]
            if 0 < len(text) <= LONGEST:
                self._answer("audio/wav", speech(self.model, text))
            else:
                self.send_error(400, f"text must have 1 to {LONGEST} characters")
        else:
            self.send_error(404)

    def _answer(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def speech(model: Any, text: str) -> bytes:
    """Return a text as the content of a WAV file."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "speech.wav"
        model.tts_to_file(text, file_path=str(file))
        return file.read_bytes()


def check() -> int:
    """Ask the service whether it is well."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=4) as answer:
            return int(answer.status != 200)
    except OSError as error:
        print(f"the service does not answer: {error}")
        return 1


def serve() -> None:
    from TTS.api import TTS

    SpeechHandler.model = TTS(MODEL)
    print(f"listening on port {PORT}", flush=True)
    ThreadingHTTPServer(("", PORT), SpeechHandler).serve_forever()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    serve()
