"""`bulkhead build --bill` and `bulkhead bill`, as they are called on a machine without the deploy."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bulkhead import command_line
from bulkhead.bill import place as bill_place
from bulkhead.bill import store
from bulkhead.bill.bill import Bill
from bulkhead.bill.recorder import BillRecorder

from ..fake_engine import fake_engine
from .bills import BillDocker, M, bill
from .recordings import BUILDKIT_20, CLASSIC, IMAGE

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def build(docker: BillDocker, *words: str, options: tuple[str, ...] = ()) -> int:
    docker.install()
    (docker.place / "ctx").mkdir(exist_ok=True)
    (docker.place / "ctx/Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    return command_line.main(["build", "--bill", *options, "--", *(words or ("-t", "app:1", f"{docker.place}/ctx"))])


def test_build_gets_a_bill(docker: BillDocker, capfd: pytest.CaptureFixture[str]) -> None:
    (docker.place / "ctx").mkdir()
    (docker.place / "ctx/data").write_bytes(b"x" * 3000)
    docker.build("cat output >&2; echo done")
    assert build(docker) == 0
    printed = capfd.readouterr()
    assert printed.out == "done\n", "standard output is docker's"
    assert "#5 [build 2/2] RUN make big\n" in printed.err
    for line in (
        "Bill 1: app:1",
        "  image             10.0 MiB  2 layers",
        "  wasted             1.0 MiB  10 % of the image, removed or overwritten in a la…",
        "  models             9.0 MiB  in the image",
        "  build cache        unknown",
        "  context            2.9 KiB  21.8 MiB sent",
        "  from the cache           1  of 4 steps",
        "         -  cached       -       ?  [build 1/2] COPY bin/busybox /bin/sh",
        "      1:15       ?       -       ?  [build 2/2] RUN make big",
        "     0.5 s     10M     10M       ?  [stage-1 1/2] COPY --from=build /out /model…",
        "      1.0 MiB  /junk",
        "               layer 1, gone in layer 2",
    ):
        assert f"\n{line}\n" in printed.err, line
    found = store.find("app")
    assert (found.size, found.wasted, found.models, found.layers) == (10 * M, M, 9 * M, 2)
    assert (found.context, found.sent, found.code, found.image) == (3000 + 22, 22_960_000, 0, IMAGE)


def test_peak_is_what_the_disk_holds_at_most(docker: BillDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    written = docker.place / "written"

    def written_bytes() -> int:
        content = written.read_text() if written.exists() else ""
        if content:
            (docker.place / "seen").touch()
        return int(content or 0)

    def used(_: str) -> Any:
        class Filled:
            used = 1000 + written_bytes()
            size, available = 10**12, 10**12

        return Filled

    monkeypatch.setattr("bulkhead.bill.meter.space_of", used)
    docker.build(
        "echo '#1 [1/1] RUN big' >&2; sleep 0.3; echo 700 >written; until [ -e seen ]; do sleep 0.01; done; echo 200 >written; sleep 0.1; cat output >&2"
    )
    assert build(docker) == 0
    found = store.find("app")
    assert (found.peak, found.peak_step) == (700, "[1/1] RUN big")


def test_cache_before_and_after_says_what_each_step_wrote(docker: BillDocker) -> None:
    def answer(_method: str, path: str, _query: object) -> tuple[int, Any]:
        assert path == "/system/df"
        old = {"ID": "old", "Type": "regular", "Description": "x", "Shared": False, "Size": 7, "UsageCount": 1}
        own = {"Type": "regular", "Shared": False, "UsageCount": 1}
        new = [
            {**own, "ID": "a", "Description": "mount / from exec /bin/sh -c make big", "Size": 90},
            {
                **own,
                "ID": "b",
                "Description": "[stage-1 1/2] COPY --from=build /out /models/m.safetensors",
                "Size": 40,
                "Shared": True,
            },
            {**own, "ID": "c", "Type": "source.local", "Description": "local source for context", "Size": 22},
        ]
        return 200, {"BuildCache": [old, *(new if "build" in " ".join(docker.calls) else [])]}

    (docker.place / "context").write_text(f"unix://{docker.place}/engine.sock\n")
    with fake_engine(docker.place / "engine.sock", answer):
        assert build(docker) == 0
    found = store.find("app")
    assert [(step.wrote, step.image, step.cache) for step in found.steps] == [
        (None, 0, 0),
        (90, 0, 90),
        (40, 10 * M, 0),
        (0, 0, 0),
    ]
    assert (found.cache_written, found.cache_added, found.cache_total, found.stored) == (152, 112, 119, 22)


def test_cache_is_asked_of_buildx_where_the_engine_is_elsewhere(docker: BillDocker) -> None:
    (docker.place / "context").write_text("tcp://10.0.0.1:2376\n")
    docker.info["Name"] = "elsewhere"
    text = "ID:\\t\\tab\\nShared:\\tfalse\\nSize:\\t\\t1.5GB\\nDescription:\\t[build 2/2] RUN make big\\nUsage count:\\t1\\n"
    docker.answer("buildx", f"[ \"$2\" = du ] && [ -f built ] && printf '{text}'; true")
    docker.build("touch built; cat output >&2")
    assert build(docker) == 0
    found = store.find("app")
    assert (found.cache_written, found.steps[1].wrote, found.peak) == (1_500_000_000, 1_500_000_000, None)
    assert found.unknown["peak"] == "the engine (elsewhere) has its data on another machine"
    assert "buildx du --verbose" in docker.calls


def test_bill_goes_to_the_engine_and_the_builder_of_the_build(docker: BillDocker) -> None:
    docker.answer("buildx", "[ $2 = inspect ] && echo 'Driver:        remote'; [ $2 = build ] && cat output >&2; true")
    words = ("docker", "--context", "far", "buildx", "--builder", "b1", "build", "-t", "app", f"{docker.place}/ctx")
    assert build(docker, *words) == 0
    asked = [call for call in docker.calls if " build " not in call]
    assert all(call.startswith("--context far ") for call in asked), asked
    assert "--context far buildx inspect b1" in asked
    assert "--context far buildx du --verbose --builder b1" in asked
    assert store.find("app").unknown["peak"] == "the builder (remote) keeps its data outside Docker"


def test_classic_builder_gets_a_bill_without_a_cache(docker: BillDocker) -> None:
    (docker.place / "output").write_text(CLASSIC)
    docker.build("cat output")
    docker.history(
        ("/bin/sh -c #(nop)  ENV A=b", 0),
        ("/bin/sh -c make big", 30),
        ("/bin/sh -c #(nop) COPY file:2a in /bin/sh ", 20),
    )
    assert build(docker) == 0
    found = store.find("app")
    assert (found.builder, found.cache_added) == ("classic", None)
    assert [step.image for step in found.steps] == [0, 0, 0, 20, 30, 0]
    assert "classic" in found.unknown["cache_added"]


def test_failed_build_keeps_its_exit_code_and_its_peak(docker: BillDocker) -> None:
    docker.build("echo '#5 [1/1] RUN a' >&2; echo '#5 ERROR: x' >&2; exit 7")
    assert build(docker) == 7
    found = store.find("app")
    assert (found.code, found.size, found.unknown["size"]) == (7, None, "the build has failed")
    assert found.peak is not None


def test_no_image_is_saved_where_it_would_not_fit(docker: BillDocker, monkeypatch: pytest.MonkeyPatch) -> None:
    class NearlyFull:
        used, size, available = 0, 1000 * M, 50 * M

    monkeypatch.setattr(bill_place, "space_of", lambda _: NearlyFull)
    assert build(docker) == 0
    found = store.find("app")
    assert (found.size, found.wasted) == (10 * M, None)
    why = "docker save needs the space of the image once more: 60 MiB, and 50 MiB are free. --save=always saves it all the same"
    assert found.unknown["wasted"] == why
    assert not any(call.startswith("save") for call in docker.calls)
    assert build(docker, options=("--save=always",)) == 0
    assert store.find("app").wasted == M


def test_image_is_not_read_if_that_is_not_wanted(docker: BillDocker) -> None:
    assert build(docker, options=("--save=never",)) == 0
    assert (store.find("app").wasted, store.find("app").size) == (None, 10 * M)
    assert not any(call.startswith("save") for call in docker.calls)


def test_save_that_fails_says_why(docker: BillDocker) -> None:
    docker.answer("save", "head -c 5000 image.tar; echo 'no space left on device' >&2; exit 1")
    assert build(docker) == 0
    assert store.find("app").unknown["wasted"] == "`docker save` failed: no space left on device"
    docker.answer("save", "cat image.tar; echo 'connection lost' >&2; exit 1")
    assert build(docker) == 0
    assert store.find("app").unknown["wasted"] == "`docker save` failed: connection lost"


def test_image_that_stays_with_its_builder_is_unknown_and_not_an_older_one(docker: BillDocker) -> None:
    (docker.place / "output").write_text(
        BUILDKIT_20.replace("#8 exporting to image", "#8 exporting to client directory")
    )
    assert build(docker) == 0
    found = store.find("app")
    assert (found.size, found.layers, found.wasted) == (None, None, None)
    assert (
        found.unknown["size"] == "the engine has got no image: a builder of buildx's keeps it to itself without --load"
    )


def test_image_that_is_gone_is_unknown_and_not_nothing(docker: BillDocker) -> None:
    docker.image = None
    assert build(docker) == 0
    assert store.find("app").size is None
    assert store.find("app").unknown["size"] == "the engine has no image app:1"


@pytest.mark.parametrize(("step", "layers"), [("importing to docker", 2), ("exporting to image", None)])
def test_image_of_a_builder_in_a_container_counts_if_it_was_loaded(
    docker: BillDocker, step: str, layers: int | None
) -> None:
    (docker.place / "output").write_text(BUILDKIT_20.replace("#8 exporting to image", f"#8 {step}"))
    docker.answer(
        "buildx", "[ $2 = inspect ] && echo 'Driver: docker-container'; [ $2 = build ] && cat output >&2; true"
    )
    assert build(docker, "docker", "buildx", "build", "-t", "app", f"{docker.place}/ctx") == 0
    assert store.find("app").layers == layers


def test_size_in_containerds_store_is_that_of_the_unpacked_layers(docker: BillDocker) -> None:
    docker.info["DriverStatus"] = [["driver-type", "io.containerd.snapshotter.v1"]]
    assert docker.image
    docker.image["Size"] = 1 * M
    assert build(docker, options=("--save=never",)) == 0
    assert (store.find("app").size, store.find("app").engine) == (10 * M, "Docker 26.1.5, containerd's store")


def test_engine_that_does_not_answer_leaves_everything_unknown(
    docker: BillDocker, capfd: pytest.CaptureFixture[str]
) -> None:
    docker.build("echo 'Cannot connect' >&2; exit 1")
    docker.info = {"ServerErrors": ["Cannot connect to the Docker daemon"]}
    assert build(docker) == 1
    found = store.find("app")
    assert (found.peak, found.cache_added, found.engine) == (None, None, "unknown")
    assert found.unknown["peak"] == "Docker does not answer: Cannot connect to the Docker daemon"
    assert "peak on disk       unknown" in capfd.readouterr().err


@pytest.mark.parametrize("options", [("--need", "5G"), ("--limit", "5G"), ("--wait",), ("--snapshot",)])
def test_what_the_deploy_provides_is_refused_without_it(
    docker: BillDocker, options: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    assert build(docker, options=options) == 3, "not started"
    assert (
        f"{options[0]}: this works only on a host that docker-bulkhead is deployed to. Nothing was built"
        in capfd.readouterr().err
    )
    assert not (docker.place / "calls").exists()


def test_damaged_configuration_of_a_host_is_not_taken_for_none(
    docker: BillDocker, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (home / "etc").mkdir()
    (home / "etc/bulkhead.json").write_text("{")
    assert build(docker) == 1
    assert "it is not valid JSON" in capfd.readouterr().err


def test_interrupted_build_ends_with_dockers_code(docker: BillDocker) -> None:
    docker.build("trap 'echo stopping >&2; exit 130' INT TERM; echo started >started; while :; do sleep 0.05; done")

    def interrupt() -> None:
        while not (docker.place / "started").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        assert build(docker) == 130
        assert signal.getsignal(signal.SIGTERM) is before, "what follows the build can be ended"
    finally:
        signal.signal(signal.SIGTERM, before)
        thread.join()
    assert store.find("app").code == 130


def test_build_that_is_to_end_while_docker_starts_ends_docker_too(
    docker: BillDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.build("trap 'exit 130' INT TERM; while :; do sleep 0.05; done")

    class Started(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            if "build" in words[0]:
                time.sleep(0.2)  # the shell has set its trap
                os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(subprocess, "Popen", Started)
    assert build(docker) == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_password_in_a_step_is_not_kept(docker: BillDocker) -> None:
    docker.build("echo '#1 [1/1] RUN pip install -i https://me:token@host/simple a' >&2; echo '#1 DONE 0.1s' >&2")
    assert build(docker) == 0
    assert store.find("app").steps[0].text == "[1/1] RUN pip install -i https://host/simple a"
    kept = docker.place / "state/bulkhead/bills.json"
    assert "token" not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600


# -- bulkhead bill


def call(*words: object) -> int:
    return command_line.main(["bill", *map(str, words)])


def kept(*bills: Bill) -> None:
    for each in bills:
        store.keep(each)


def test_bill_is_found_by_number_by_image_and_in_a_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(bill(name="tts:1"), bill(name="tts:2", peak=3), bill(key="web", name="web:1"))
    assert call() == 0
    assert capsys.readouterr().out.startswith("Bill 3: web:1\n")
    for wanted, number in (("1", 1), ("tts", 2), ("tts:1", 1), ("tts:2", 2)):
        assert call(wanted, "--json") == 0
        assert json.loads(capsys.readouterr().out)["number"] == number
    assert call("1", "--json") == 0
    (home / "bill.json").write_text(capsys.readouterr().out)
    assert call("bill.json") == 0
    assert capsys.readouterr().out.startswith("Bill 1: tts:1\n")


def test_missing_and_damaged_bills_are_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 1
    assert capsys.readouterr().err == "bulkhead: there is no bill yet: `bulkhead build --bill` makes one\n"
    assert call("7") == 1
    assert (
        capsys.readouterr().err
        == "bulkhead: there is no bill 7, and no such file; `bulkhead bill --list` shows all bills\n"
    )
    for text in ("{", "[]", '{"key": "a"}', json.dumps({**bill().as_json(), "peak": "much"})):
        (home / "bill.json").write_text(text)
        assert call("bill.json") == 1
        assert capsys.readouterr().err.startswith("bulkhead: bill.json is not a bill of `bulkhead bill --json`: ")


def test_list_shows_one_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    kept(bill(peak=None), bill(code=1, name="web:1", key="web"))
    assert call("--list") == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["BILL", "AGE", "TIME", "PEAK", "IMAGE", "WASTED", "LAYERS", "NAME"]
    assert first.split()[-7:] == ["unknown", "16.0", "GiB", "2.0", "GiB", "9", "tts:1"]
    assert second.endswith("web:1 (failed: 1)")
    assert call("web", "--list", "--json") == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == ["web:1"]


def test_comparison_is_the_incidents_table(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(bill(), bill(name="tts:2", peak=13 * 2**30, size=11 * 2**30, layers=9, models=0, context=40 * M, wasted=None))
    assert call("compare", 1, 2, "--svg", "pair.svg") == 0
    shown = capsys.readouterr().out
    for line in (
        "                       Bill 1: tts:1  Bill 2: tts:2  CHANGE",
        "  peak on disk              24.0 GiB       13.0 GiB  -46 %",
        "  image                     16.0 GiB       11.0 GiB  -31 %",
        "  compressed                 unknown        unknown",
        "  layers                           9              9  same",
        "  wasted                     2.0 GiB        unknown",
        "  context                  200.0 MiB       40.0 MiB  -80 %",
        "  models at build time       4.0 GiB        0 bytes  -100 %",
    ):
        assert f"{line}\n" in shown, line
    drawn = (home / "pair.svg").read_text()
    assert drawn.startswith("<svg ")
    assert ">13.0 GiB (-46 %)</text>" in drawn
    assert "wasted" not in drawn, "what one bill does not know is not drawn"
    assert call("compare", 1, 2, "--json") == 0
    assert json.loads(capsys.readouterr().out)["figures"]["peak"] == [24 * 2**30, 13 * 2**30]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("compare 1", "bulkhead bill: compare takes two bills: numbers, images or files."),
        ("1 2", "bulkhead bill: it has no argument 2."),
        ("1 --svg x", "bulkhead bill: --svg needs compare."),
    ],
)
def test_wrong_arguments_of_bill(words: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        call(*words.split())
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(sentence)


@pytest.mark.parametrize("what", ["keep", "make", "make by mistake", "wait for"])
def test_build_without_a_bill_is_not_judged_by_an_older_one(
    docker: BillDocker, monkeypatch: pytest.MonkeyPatch, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(docker) == 0
    with monkeypatch.context() as broken:
        if what == "keep":
            broken.setattr(store, "keep", _disk_is_full)
        elif what == "make":
            broken.setattr("bulkhead.bill.recorder.bill_of", _disk_is_full)
        elif what == "make by mistake":
            broken.setattr("bulkhead.bill.recorder.bill_of", {}.__getitem__)
        else:  # while the image is read
            broken.setattr("bulkhead.bill.recorder.bill_of", _interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            assert build(docker) == 0
    capsys.readouterr()
    for words in ([], ["app"], ["app:1"]):
        assert command_line.main(["gate", "--image", "1G", *words]) == 3
        assert capsys.readouterr().err.startswith(
            "bulkhead: the latest build has no bill, and an older bill is not its own"
        )
    assert command_line.main(["gate", "--image", "1G", "1"]) == 0
    assert build(docker) == 0
    assert command_line.main(["gate", "--image", "1G"]) == 0


def _disk_is_full(*_: object) -> Any:
    raise OSError("No space left on device")


def _interrupted(*_: object) -> Any:
    raise KeyboardInterrupt


def test_engine_that_describes_its_cache_in_another_form_costs_only_these_figures(docker: BillDocker) -> None:
    (docker.place / "context").write_text(f"unix://{docker.place}/engine.sock\n")
    with fake_engine(docker.place / "engine.sock", lambda *_: (200, {"BuildCache": [{"Identifier": "a"}]})):
        assert build(docker) == 0
    found = store.find("app")
    assert (found.cache_added, found.size) == (None, 10 * M)
    assert found.unknown["cache_added"] == "the engine describes its build cache in another form: KeyError('ID')"


def test_tokens_in_addresses_are_in_no_bill(docker: BillDocker, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    docker.build("echo '#5 [1/1] ADD https://me:S3CRET@host/a?size=1&token=S3CRET /a' >&2; echo '#5 DONE 0.1s' >&2")
    assert build(docker, "https://me:S3CRET@host/a.tar.gz?private_token=S3CRET") == 0
    assert store.find("").name == "https://host/a.tar.gz?private_token=…"
    assert store.find("").steps[0].text == "[1/1] ADD https://host/a?size=…&token=… /a"
    assert "S3CRET" not in (home / "state/bulkhead/bills.json").read_text()
    assert "S3CRET" not in capfd.readouterr().err.partition("What it took")[2]


def bulkhead(docker: BillDocker, **streams: Any) -> subprocess.Popen[bytes]:
    """Start a build with a bill as a user does."""
    docker.install()
    words = [sys.executable, "-m", "bulkhead", "build", "--bill", "--", "-t", "app", str(docker.place)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    return subprocess.Popen(words, env=environment, **{"stderr": subprocess.PIPE, **streams})


def test_output_that_cannot_be_written_is_not_lost_in_silence(docker: BillDocker) -> None:
    docker.build("echo image; cat output >&2")
    with open("/dev/full", "wb") as full, bulkhead(docker, stdout=full) as process:
        assert process.stderr is not None
        errors = process.stderr.read()
    assert b"bulkhead: standard output cannot be written to: No space left on device\n" in errors
    assert process.returncode == 1


def test_output_arrives_whole_where_another_program_has_made_the_pipe_non_blocking(docker: BillDocker) -> None:
    docker.build("head -c 500000 /dev/zero; cat output >&2")
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with bulkhead(docker, stdout=writer, stderr=subprocess.DEVNULL) as process:
        os.close(writer)
        with open(reader, "rb") as source:
            assert len(source.read()) == 500_000
    assert process.returncode == 0


def test_guards_count_is_left_out_where_the_guard_does_not_see_the_steps(
    docker: BillDocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = BillRecorder.started

    def counted(recorder: BillRecorder) -> None:
        started(recorder)
        recorder.steps_written = 0

    monkeypatch.setattr(BillRecorder, "started", counted)
    assert build(docker) == 0
    assert store.find("app").steps_written == 0
    docker.answer(
        "buildx", "[ $2 = inspect ] && echo 'Driver: docker-container'; [ $2 = build ] && cat output >&2; true"
    )
    words = ("docker", "buildx", "--builder", "b1", "build", "-t", "app", f"{docker.place}/ctx")
    assert build(docker, *words) == 0
    assert store.find("app").steps_written is None
