"""Make the voice that the service begins with. Whoever runs this at build time has the models in the image."""

from TTS.api import TTS

TTS("tts_models/multilingual/multi-dataset/xtts_v2").tts_to_file("hello", file_path="default_speaker.wav")
