"""`bulkhead preflight`: the checks of a build, of the host, and of what is built."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from bulkhead import state
from bulkhead.bill import store
from bulkhead.guard import ballast, loop
from bulkhead.outage import unit
from bulkhead.preflight import commands
from bulkhead.watch import alert_store, check
from bulkhead.watch.results import CRITICAL, OK, UNKNOWN, WARNING, CheckResult, Observation

from ..bill.bills import bill
from ..build.build_host import CONFIG, G, as_user, options
from ..context.contexts import make
from ..status.example_status import ANSWERS

ALERTED = CONFIG._replace(receiver_names=("ops", "chat"))
BUILD = ["docker", "volume", "inodes", "guard", "builds", "room"]
HOST = ["ballast", "check", "prune", "alerts", "host"]


def preflight(words: str = "", **changed: Any) -> int:
    return commands.run(changed.pop("config", ALERTED), options(words, **changed))


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, str]]:
    """Return what was printed: name → level and text."""
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    return {row.partition(": ")[0]: (level, row.partition(": ")[2]) for level, row in rows}


@pytest.mark.usefixtures("ready")
def test_host_that_is_ready_has_a_line_for_each_check_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight() == 0
    found = shown(capsys)
    assert [*found] == [*BUILD, *HOST]
    assert {level for level, _ in found.values()} == {"ok"}
    assert found["ballast"][1] == "256.0 MiB"
    assert found["check"][1] == "the last one was 4 min ago; every 15 min is usual"
    assert found["prune"][1].startswith("docker-prune.timer is active; the next one is in ")
    assert found["alerts"][1] == "go to ops, chat"
    assert found["host"][1] == "`bulkhead check` finds nothing else"


def observed(ready: pytest.MonkeyPatch, *results: CheckResult) -> None:
    timer = CheckResult("unit:docker-prune.timer", OK, "docker-prune.timer is active")
    observation = Observation(results=[ANSWERS, timer, *results])
    ready.setattr(check, "collect", lambda *_: (observation, {}))


@pytest.mark.parametrize(
    ("level", "shown_as", "code"), [(WARNING, "warning", 0), (UNKNOWN, "warning", 0), (CRITICAL, "failed", 3)]
)
def test_whatever_else_a_check_finds_is_named(
    ready: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], level: int, shown_as: str, code: int
) -> None:
    observed(ready, CheckResult("use:/", level, "/ 95 % used", "/"))
    assert preflight() == code
    assert shown(capsys)["host"] == (shown_as, "/ 95 % used")


def test_what_another_line_has_is_not_named_twice(
    ready: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ready.setattr(loop, "is_alive", lambda: False)
    observed(
        ready,
        CheckResult("isolation", CRITICAL, "Docker is not isolated"),
        CheckResult("unit:docker-guard.service", WARNING, "docker-guard.service is failed"),
        CheckResult("inodes:/srv/docker-volume", CRITICAL, "no inodes"),
        CheckResult("prune", WARNING, "the last prune was 3 d ago"),
    )
    assert preflight() == 3
    found = shown(capsys)
    assert found["host"][0] == "ok"
    assert found["guard"][0] == "failed"
    assert found["prune"] == ("warning", "the last prune was 3 d ago")


@pytest.mark.parametrize(
    ("age", "level", "text"),
    [
        (29 * 60, "ok", "29 min ago"),
        (31 * 60, "warning", "31 min ago"),
        (None, "warning", "the host has not been checked yet: `bulkhead check`"),
    ],
)
@pytest.mark.usefixtures("ready")
def test_check_that_is_missing_is_a_warning(
    capsys: pytest.CaptureFixture[str], age: float | None, level: str, text: str
) -> None:
    state.save("check", {} if age is None else {"samples": {"/": [[time.time() - age, 1]]}})
    assert preflight() == 0
    found = shown(capsys)["check"]
    assert found[0] == level
    assert text in found[1]


def test_ballast_that_is_used_up_is_a_warning(ready: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ready.setattr(ballast, "held", lambda _: 0)
    assert preflight() == 0
    assert shown(capsys)["ballast"] == (
        "warning",
        "0 bytes of 256.0 MiB. The guard has used it, and makes it again when there is room",
    )
    assert preflight(config=ALERTED._replace(guard_ballast=0)) == 0
    assert shown(capsys)["ballast"][1].startswith("none, by the settings")


def test_what_is_switched_off_or_sent_to_nobody_is_a_warning(
    ready: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight(config=CONFIG._replace(watched_units=())) == 0
    found = shown(capsys)
    assert found["alerts"] == ("warning", "nobody is alerted: name somebody in alert_receivers")
    assert found["prune"] == ("warning", "switched off in the settings: nothing is removed at night")
    assert found["guard"][0] == found["ballast"][0] == "warning"
    ready.setattr(alert_store, "queued", lambda: {"ops": 2})
    assert preflight() == 0
    assert shown(capsys)["alerts"] == ("warning", "2 messages could not be sent yet to ops, chat")


def test_move_that_is_under_way_fails(ready: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ready.setattr(unit, "is_under_way", lambda: True)
    assert preflight() == 3
    assert shown(capsys)["host"][0] == "failed"


def test_host_that_cannot_be_checked_is_a_warning(
    ready: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(*_: object) -> None:
        raise OSError("no answer")

    ready.setattr(check, "collect", silent)
    assert preflight() == 0
    found = shown(capsys)
    assert found["host"] == ("warning", "cannot be checked: no answer")
    assert found["prune"] == ("warning", "cannot tell whether docker-prune.timer is active")


def test_other_users_learn_what_only_root_can_see(
    ready: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_user(ready)
    assert preflight() == 0
    assert shown(capsys)["check"] == ("warning", "the last check is unknown: only root can see it")


# -- what is built


@pytest.fixture
def app(ready: pytest.MonkeyPatch) -> Path:
    """Return a project with a Dockerfile in which nothing is wrong."""
    del ready
    Path("Dockerfile").write_text("FROM scratch\nCOPY app /\n")
    make(Path(), "app", size=3000)
    return Path()


def test_dockerfile_and_context_of_a_build_are_checked(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight("-t app .") == 0
    found = shown(capsys)
    assert [*found] == [*BUILD, *HOST, "review", "context"]
    assert found["review"] == ("ok", "nothing to report of ./Dockerfile")
    assert found["context"] == ("ok", "3000 bytes can be sent")
    (app / "Dockerfile").write_text("ARG BASE=debian:12\nFROM $BASE\nRUN apt-get update\nCMD x\n")
    assert preflight("--build-arg BASE=debian -t app .") == 0
    assert shown(capsys)["review"] == (
        "warning",
        "2 findings: base-latest in line 2, package-cache in line 3. `bulkhead review` explains them",
    )
    (app / "Dockerfile").write_text("FROM scratch\nENV API_TOKEN=abc\n")
    assert preflight("-t app .") == 3
    assert shown(capsys)["review"][0] == "failed"


def test_dockerfile_that_docker_would_refuse_fails(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / "Dockerfile").write_text("FROM scratch\nCPOY a b\n")
    assert preflight("-t app .") == 3
    found = shown(capsys)
    assert (
        found["review"]
        == found["context"]
        == ("failed", "Dockerfile:2: there is no instruction CPOY. Did you mean COPY?")
    )
    (app / "Dockerfile").unlink()
    assert preflight("-t app .") == 0
    assert shown(capsys)["review"][0] == "warning"


@pytest.mark.usefixtures("app")
def test_compose_and_repositories_are_not_reviewed(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("docker compose build web", "https://host/app.git"):
        assert preflight(words) == 0
        assert [*shown(capsys)] == [*BUILD, *HOST]


def test_gate_judges_the_last_build_and_the_context_as_it_is_now(app: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (app / ".bulkhead.ini").write_text("[gate]\nimage = 12G\ncontext = 1M\n")
    assert preflight("-t tts:2 .") == 0
    assert shown(capsys)["gate"] == (
        "ok",
        ".bulkhead.ini has limits. There is no bill of this image yet to hold to them",
    )
    store.keep(bill(key="other", size=99 * G))
    kept = store.keep(bill(size=16 * G))
    assert preflight("-t tts:2 .") == 0
    assert shown(capsys)["gate"] == (
        "warning",
        f"the last build was over a limit: image 16.0 GiB of at most 12.0 GiB (Bill {kept.number}: tts:1)",
    )
    store.keep(bill(size=11 * G))
    store.keep(bill(size=99 * G, code=1))
    assert preflight("-t tts:2 .") == 0
    assert shown(capsys)["gate"][0] == "ok", (
        "a build that failed says nothing of the image, and the old context is gone"
    )
    make(app, "app", size=2 * 2**20)
    assert preflight("-t tts:2 .") == 3
    assert shown(capsys)["gate"] == ("failed", "context: 2.0 MiB of at most 1.0 MiB (.bulkhead.ini)")
    (app / ".bulkhead.ini").write_text("[gate]\nimage = large\n")
    assert preflight("-t tts:2 .") == 3
    assert "image must be a size" in shown(capsys)["gate"][1]


@pytest.mark.usefixtures("app")
def test_everything_is_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert preflight("-t app .", json=True, need=90 * G) == 3
    values = json.loads(capsys.readouterr().out)
    assert values["fits"] is False
    levels = {item["name"]: item["level"] for item in values["checks"]}
    assert [*levels] == [*BUILD, *HOST, "review", "context"]
    assert levels["room"] == "failed"
