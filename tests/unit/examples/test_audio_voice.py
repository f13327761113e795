"""The example: what the review says of it before and after, and that its parts fit together."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import wave
import zipfile
from pathlib import Path

import pytest

from bulkhead.context.commands import collect
from bulkhead.dockerfile.context import content_of
from bulkhead.gate import limits
from bulkhead.review.commands import review
from bulkhead.review.page import Review

from ..bulkhead.context.contexts import make, options
from ..prepared import Prepared
from .loading import EXAMPLE, load

# The failings of the incident that a Dockerfile has → the rules that find them.
FAILINGS = {
    1: {"single-stage", "devel-base"},
    2: {"model-download"},
    3: {"split-install"},
    4: {"incomplete-dockerignore"},
    5: {"toolchain-in-image"},
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the example as the tour makes a project of it: in a directory of its own, with a git repository."""
    project = tmp_path / "project"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("__pycache__"))
    make(project, ".git/objects/pack/pack-1.pack", size=100_000)
    make(project, "__pycache__/server.cpython-312.pyc")
    return project


def reviewed(project: Path, name: str) -> Review:
    path = project / name
    return review(options(project, file=str(path), hadolint=False), path.read_bytes(), str(path))


def sent(project: Path, name: str) -> int:
    path = str(project / name)
    return collect(options(project, file=path), content_of(path), path).survey.sent.bytes


def test_review_names_every_failing_of_the_incident(project: Path) -> None:
    found = {each.rule for each in reviewed(project, "Dockerfile.before").open}
    for number, rules in FAILINGS.items():
        assert rules <= found, f"failing {number}"
    assert found - set().union(*FAILINGS.values()) == {"package-cache", "base-without-digest"}


def test_review_finds_nothing_in_the_improved_dockerfile(project: Path) -> None:
    result = reviewed(project, "Dockerfile")
    assert [*result.open] == []
    assert {each.rule for each in result.allowed} == {"base-without-digest"}


def test_context_is_a_fifth_and_has_nothing_to_propose(project: Path) -> None:
    assert sent(project, "Dockerfile") <= sent(project, "Dockerfile.before") / 5
    path = str(project / "Dockerfile")
    assert collect(options(project, file=path), content_of(path), path).proposal.lines == ()


def test_everything_that_the_image_runs_is_sent(project: Path) -> None:
    dockerfile = (project / "Dockerfile").read_text()
    ignored = (project / ".dockerignore").read_text()
    for name in re.findall(r"[\w/]+\.(?:py|txt|json)\b", dockerfile.replace("models.json", "")):
        if (project / name).is_file():
            assert f"\n!{name}\n" in ignored, name
    assert "\n!models.json\n" in ignored


def test_service_starts_after_the_models_have_come_and_only_then_is_it_healthy() -> None:
    text = (EXAMPLE / "Dockerfile").read_text()
    assert 'CMD ["sh", "-c", "python3 scripts/download_models.py && exec python3 server.py"]\n' in text
    assert '--start-period=30m CMD ["python3", "server.py", "--check"]\n' in text


def test_health_check_fails_while_nothing_answers(capsys: pytest.CaptureFixture[str]) -> None:
    server = load("server.py")
    server.PORT = 1
    assert server.check() == 1
    assert capsys.readouterr().out.startswith("the service does not answer: ")


def test_tests_of_the_example_pass() -> None:
    subprocess.run(
        [sys.executable, "-m", "unittest", "tests.test_server"], cwd=EXAMPLE, check=True, capture_output=True
    )


def test_models_are_in_the_volume_that_the_incident_decided() -> None:
    compose = (EXAMPLE / "compose.yaml").read_text()
    assert "- models_cache:/app/models\n" in compose
    assert "\nvolumes:\n  models_cache:\n" in compose


def test_limits_of_the_example_are_limits() -> None:
    held = limits.read(str(EXAMPLE / limits.FILE), "audio-voice")
    assert set(held) == {"peak", "image", "layers", "context", "wasted", "models"}


def test_stand_ins_are_installed_by_pip_as_the_dockerfiles_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hundredth of their bulk. The step of the incident before brings a version of PyTorch that the service cannot use."""
    stand_ins = load("base/stand_ins.py")
    monkeypatch.setattr(stand_ins, "SCALE", 1)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for each in (stand_ins.CUDNN, *stand_ins.TORCH, *stand_ins.TORCHAUDIO, stand_ins.F5_TTS, stand_ins.COQUI_TTS):
        file = wheels / stand_ins.wheel(wheels, *each)
        assert zipfile.ZipFile(file).testzip() is None

    def installed(target: Path, *words: str) -> str:
        """Install into a directory, and return the names and versions."""
        line = [pip.program, "-m", "pip", "--isolated", "install", "--no-index", "--find-links", str(wheels)]
        # Without the second option pip looks through every package of this Python.
        options = ("--quiet", "--no-warn-conflicts", "--target", str(target))
        subprocess.run([*line, *options, *words], check=True, capture_output=True)
        return " ".join(sorted(path.name.removesuffix(".dist-info") for path in target.glob("*.dist-info")))

    with Prepared(tmp_path, "pip._internal.cli.main", "pip._internal.commands.install") as pip:
        assert "torch-2.5.1 torchaudio-2.5.1" in installed(tmp_path / "before", "torch", "torchaudio")
        after = installed(tmp_path / "after", "--requirement", str(EXAMPLE / "requirements.txt"))
    assert after == "coqui_tts-0.25.1 f5_tts-1.1.0 nvidia_cudnn_cu12-9.1.0.70 torch-2.4.1 torchaudio-2.4.1"
    monkeypatch.setenv("TTS_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "after"))
    directory = tmp_path / "tts/tts_models--multilingual--multi-dataset--xtts_v2"
    make(directory, "model.pth", "dvae.pth")
    from TTS.api import TTS  # type: ignore[import-not-found]

    server = load("server.py")
    (tmp_path / "speech.wav").write_bytes(server.speech(TTS(server.MODEL), "hello"))
    with wave.open(str(tmp_path / "speech.wav")) as file:
        assert file.getnframes() == 5 * file.getframerate() // 10
    listed = [model.path for model in load("scripts/download_models.py").models_of(EXAMPLE / "models.json")]
    assert sorted(listed) == sorted(str(path.relative_to(tmp_path)) for path in directory.iterdir())
