"""Judge the daemon.json that a host has: whether Docker can go on with it, and with our keys beside its own. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping

from bulkhead.names import DOCKER_STORE
from settings import daemon_json
from settings.model import Settings
from tasks.preflight.finding import LEAVE_OUT, Finding
from tasks.preflight.host import HostState
from tasks.preflight.plan import Plan
from tasks.support.daemon_keys import is_in_force, our_keys
from tasks.support.paths import DAEMON_JSON

CHANGE_DRIVER = "save what you need, change the driver as Docker's documentation says, and run again"
HIDES_IMAGES = "overlay2: a change of the driver would hide every image and container"


def judge_daemon_json(settings: Settings, state: HostState, *, containerd_store: bool) -> Iterator[Finding]:
    """Yield what somebody else has set there and cannot stay, and why the file cannot be read.

    Args:
        containerd_store: the engine keeps its images in containerd's store.
    """
    try:
        wrong = dict(daemon_json.wrong_types(daemon_json.parse(state.daemon_json)))
    except ValueError as error:
        wrong = {}
        yield Finding(
            f"{DAEMON_JSON} is {error}",
            "a JSON object, to merge our keys into: otherwise its content would be lost",
            f"correct {DAEMON_JSON}, or remove it",
        )
    if wrong:
        # Only names: values may be secrets.
        yield Finding(
            f"{DAEMON_JSON} has values that Docker cannot read: {', '.join(wrong)}",
            f"{', '.join(f'{kind} as {name}' for name, kind in wrong.items())}: Docker does not start with another type",
            f"correct these keys in {DAEMON_JSON}, or remove them",
        )
    configuration = readable_keys(state.daemon_json)
    # The file counts beside the running daemon: the next start reads it.
    # With userns-remap, the running daemon shows the directory of its users, below its data root.
    is_remapped = bool(configuration.get("userns-remap"))
    is_below = is_remapped and posixpath.dirname(state.data_root) == DOCKER_STORE
    roots = ("" if is_below else state.data_root, configuration.get("data-root"), configuration.get("graph"))
    for root in dict.fromkeys(root for root in roots if root and posixpath.normpath(root) != DOCKER_STORE):
        yield Finding(
            f"Docker's data root is {root}",
            f"the default, {DOCKER_STORE}, where the volume is mounted",
            f"stop Docker, move its data to the default path and remove data-root from {DAEMON_JSON}, {LEAVE_OUT}",
        )
    if is_remapped:
        yield Finding(
            f"{DAEMON_JSON} sets userns-remap",
            "no userns-remap: it gives Docker another data root, below the default one, with images, containers and volumes "
            "of its own",
            f"save what you need (`docker save`, and the files of volumes), remove userns-remap from {DAEMON_JSON} and "
            "restart Docker, load it again, and run again (docs/refused.md); if Docker holds nothing yet, remove userns-remap "
            f"alone, {LEAVE_OUT}",
        )
    yield from _judge_logs(settings, state, configuration)
    if not containerd_store:  # else Docker does not read them (moby, daemon/daemon.go, NewDaemon)
        yield from _bad_options(dict(daemon_json.bad_storage_options(configuration)))
    driver = configuration.get("storage-driver", "overlay2")
    if driver not in ("overlay2", state.storage_driver):
        yield Finding(
            f"{DAEMON_JSON} sets the storage driver {driver}",
            HIDES_IMAGES,
            CHANGE_DRIVER,
        )


def planned_keys(settings: Settings, plan: Plan) -> daemon_json.Json:
    """Return the keys that a run with this plan puts into the file."""
    return our_keys(
        settings,
        plan.size,
        containerd_store=plan.containerd_store,
        nvidia=plan.nvidia,
        log_driver=plan.log_driver,
    )


def judge_obstacle(settings: Settings, state: HostState, plan: Plan | None) -> Iterator[Finding]:
    """Yield why the file cannot be replaced, where this run would replace it.

    Args:
        plan: None where there is none: then a host that this project has configured is taken to keep its file.
    """
    if state.daemon_json_obstacle and not _stays(settings, state, plan):
        yield Finding(
            f"{DAEMON_JSON} is {state.daemon_json_obstacle}",
            "a file that this project can replace, or a symbolic link to one",
            f"make it a plain file that root can replace (an immutable one: `chattr -i`), {LEAVE_OUT}",
        )


def _stays(settings: Settings, state: HostState, plan: Plan | None) -> bool:
    if plan is None:
        return bool(state.daemon_json_applied)
    texts = (state.daemon_json, state.daemon_json_applied)
    try:
        is_readable = not any(dict(daemon_json.wrong_types(daemon_json.parse(text))) for text in texts)
        return is_readable and is_in_force(planned_keys(settings, plan), *texts)
    except ValueError:
        return False


def _judge_logs(settings: Settings, state: HostState, configuration: daemon_json.Json) -> Iterator[Finding]:
    wanted = log_driver(settings, state)
    present = _own_log_driver(state)
    if present not in ("", "json-file", wanted) and settings.log_driver != "keep":
        yield Finding(
            f"{DAEMON_JSON} sets the log driver {present}",
            f"{wanted}, as log_driver asks: log_max_size and log_max_file limit its files",
            f'set log_driver = "keep", which leaves {present} in force, or remove log-driver and log-opts from {DAEMON_JSON} '
            "(a single container can still have another driver, with --log-driver)",
        )
    elif wanted:
        limits = daemon_json.log_limits(wanted, settings.log_max_size, settings.log_max_file)
        ours = limits | settings.daemon_json.get("log-opts", {})
        options = configuration.get("log-opts", {}) | ours
        yield from _bad_options(dict(daemon_json.bad_log_options(wanted, options)))


def _bad_options(bad: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the finding for options of the host's own, each with what Docker would do."""
    if bad:
        yield Finding(
            f"{DAEMON_JSON} sets {', '.join(bad)}",
            "; ".join(f"no {name} ({why})" for name, why in bad.items()),
            f"remove {'it' if len(bad) == 1 else 'them'} from {DAEMON_JSON}, {LEAVE_OUT}",
        )


def log_driver(settings: Settings, state: HostState) -> str:
    """Return the log driver that daemon.json gets from us; empty where the host keeps its own."""
    if settings.log_driver != "keep":
        return settings.log_driver
    return "" if _own_log_driver(state) not in ("", "json-file") else "json-file"


def _own_log_driver(state: HostState) -> str:
    """Return the log driver that somebody else has set; empty where there is none, or where it is ours."""
    driver: str = readable_keys(state.daemon_json).get("log-driver", "")
    return driver if driver != readable_keys(state.daemon_json_applied).get("log-driver") else ""


def daemon_json_warnings(settings: Settings, state: HostState) -> Iterator[str]:
    """Yield what becomes of the keys of daemon.json that somebody else has set."""
    if not log_driver(settings, state):
        yield (
            f'the log driver {_own_log_driver(state)} of {DAEMON_JSON} stays (log_driver = "keep"): log_max_size and '
            "log_max_file do not limit its logs"
        )
    builder = readable_keys(state.daemon_json).get("builder", {})
    collections = [keys or {} for name, keys in builder.items() if daemon_json.is_gc(f"builder.{name}")]
    if any(key.lower() == "policy" for keys in collections for key in keys):
        yield (
            f"builder.gc.policy of {DAEMON_JSON} would put the limits of the build cache out of force: builder.gc is "
            "replaced by what follows from build_cache_size"
        )


def readable_keys(text: str) -> daemon_json.Json:
    """Return the keys of a daemon.json that Docker can read: none of a file that is not a JSON object.

    Args:
        text: of the file.
    """
    try:
        keys = daemon_json.parse(text)
    except ValueError:
        return {}
    wrong = {name.partition(".")[0] for name, _ in daemon_json.wrong_types(keys)}
    return {key: value for key, value in keys.items() if key not in wrong}
