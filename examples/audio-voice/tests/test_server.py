"""python3 -m unittest tests.test_server"""

import unittest
from pathlib import Path

import server


class SilentModel:
    def tts_to_file(self, text: str, file_path: str) -> None:
        Path(file_path).write_text(f"speech of {text}")


class SpeechCase(unittest.TestCase):
    def test_text_becomes_speech(self) -> None:
        assert server.speech(SilentModel(), "hello") == b"speech of hello"
