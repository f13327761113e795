"""Know daemon.json as dockerd does: how it reads the file, and which values of the keys it can work with.

From moby: daemon/config (config.go, config_linux.go, builder.go), daemon/logger and daemon/graphdriver/overlay2. `dockerd
--validate` of 26.1 accepts and refuses the same types.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

_TYPES: dict[str, str] = {
    "text": (
        "api-cors-header bip bip6 bridge bridge-accept-fwmark cgroup-parent containerd containerd-namespace data-root "
        "default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-runtime exec-root "
        "firewall-backend fixed-cidr fixed-cidr-v6 graph group host-gateway-ip init-path ip log-driver log-format "
        "log-level metrics-addr pidfile seccomp-profile storage-driver swarm-default-advertise-addr tlscacert tlscert "
        "tlskey userland-proxy-path userns-remap"
    ),
    "true or false": (
        "allow-direct-routing cri-containerd debug experimental icc init ip-forward ip-forward-no-drop ip-masq "
        "ip6tables iptables ipv6 live-restore no-new-privileges raw-logs selinux-enabled tls tlsverify userland-proxy"
    ),
    "a whole number": (
        "cpu-rt-period cpu-rt-runtime max-concurrent-downloads max-concurrent-uploads max-download-attempts mtu "
        "network-control-plane-mtu network-diagnostic-port shutdown-timeout"
    ),
    "a list of text": (
        "allow-nondistributable-artifacts authorization-plugins cdi-spec-dirs dns dns-opts dns-search exec-opts hosts "
        "host-gateway-ips insecure-registries labels node-generic-resources registry-mirrors storage-opts"
    ),
    "a list of dictionaries": "default-address-pools",
    "a dictionary": "builder default-network-opts default-ulimits features log-opts proxies runtimes",
}
_TYPE_OF = {key: kind for kind, keys in _TYPES.items() for key in keys.split()}

# What the values in some dictionaries are.
_TYPE_BELOW = {
    "features": "true or false",
    "log-opts": "text",
    "proxies": "text",
    "runtimes": "a dictionary",
    "default-network-opts": "a dictionary",
    "default-ulimits": "a dictionary",
}

# Log drivers with the limits max-size and max-file, and the other options that each knows. Newer versions of "local"
# know more; an older one does not start with them.
_LOG_OPTIONS = {
    "json-file": {"max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"},
    "local": {"max-size", "max-file", "compress"},
}
_OPTIONS_OF_EVERY_LOG_DRIVER = {"mode", "max-buffer-size"}

# Go, strconv.ParseBool
_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}

_STOPS_DOCKER = "Docker does not start with it"


def decode(data: bytes) -> str:
    """Return the text of the file, its byte order mark included. ``parse`` refuses bytes that are no text."""
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    return data.decode(errors="surrogateescape")


def parse(text: str) -> Json:
    """Return the keys of the file, as Docker 23.0 and later read them; an earlier Docker knows no byte order mark.

    A blank file has no keys.

    Args:
        text: from ``decode``.

    Raises:
        ValueError: dockerd cannot read the file. The message shows nothing of its content.
    """
    text = text.removeprefix("\ufeff").strip()
    try:
        text.encode()
        keys = json.loads(text or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ValueError("not a JSON object") from None
    if not isinstance(keys, dict | None):
        raise ValueError("not a JSON object")
    return set_keys(keys or {})


def set_keys(keys: Json) -> Json:
    """Return the keys that are set: one whose value is null is not."""
    return {key: value for key, value in keys.items() if value is not None}


def _no_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")


def wrong_types(keys: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each key whose value has a type that dockerd cannot read, and the type that it reads there.

    >>> list(wrong_types({"debug": "yes", "runtimes": {"kata": "/opt/kata"}, "no-such-key": 1}))
    [('debug', 'true or false'), ('runtimes.kata', 'a dictionary')]
    """
    for key, value in keys.items():
        if not _is(value, _TYPE_OF.get(key, "")):
            yield key, _TYPE_OF[key]
        elif isinstance(value, dict):
            for name, below in set_keys(value).items():
                kind = "a dictionary" if is_gc(f"{key}.{name}") else _TYPE_BELOW.get(key, "")
                if not _is(below, kind):
                    yield f"{key}.{name}", kind


def _is(value: object, kind: str) -> bool:
    match kind:
        case "text":
            return isinstance(value, str)
        case "true or false":
            return isinstance(value, bool)
        case "a whole number":
            return type(value) is int
        case "a list of text":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "a list of dictionaries":
            return isinstance(value, list) and all(isinstance(item, dict) for item in value)
        case "a dictionary":
            return isinstance(value, dict)
    return True  # a key that we do not know


def is_gc(name: str) -> bool:
    """Return whether a name is that of BuildKit's garbage collection: below "builder" dockerd ignores the case.

    >>> is_gc("builder.GC"), is_gc("builder.entitlements")
    (True, False)
    """
    return name.lower() == "builder.gc"


def bad_storage_options(keys: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each storage option with which Docker does not start on its volume, and why."""
    for option in keys.get("storage-opts", ()):
        name = option.partition("=")[0].strip().lower()
        if name == "overlay2.size":
            yield (
                f"storage-opts {name}",
                f"{_STOPS_DOCKER}: it needs xfs with pquota, which Docker's volume does not have",
            )
        elif name != "overlay2.override_kernel_check":
            yield f"storage-opts {name}", f"{_STOPS_DOCKER}: overlay2 knows no such option"


def log_limits(driver: str, max_size: str, max_file: int) -> dict[str, str]:
    """Return the options that limit a log driver of ours.

    Args:
        driver: "json-file" or "local".
        max_size, max_file: its limits.
    """
    # The driver local compresses by default, and with one file no container starts with that.
    compress = {"compress": "false"} if driver == "local" and max_file == 1 else {}
    return {"max-size": max_size, "max-file": str(max_file), **compress}


def bad_log_options(driver: str, options: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield each option that a log driver cannot work with, and what Docker would do.

    Args:
        driver: "json-file" or "local".
        options: all of its options, with the limits.
    """
    for name in options:
        if name not in _LOG_OPTIONS[driver] | _OPTIONS_OF_EVERY_LOG_DRIVER and not name.startswith("cache-"):
            yield f"log-opts.{name}", f"{_STOPS_DOCKER}: the log driver {driver} knows no such option"
    compress = options.get("compress", "false")
    if compress not in _TRUE | _FALSE:
        yield "log-opts.compress", 'no new container starts with it: it must be "true" or "false"'
    elif compress in _TRUE and options["max-file"] == "1":
        yield "log-opts.compress", "no new container starts with it: with one log file there is nothing to compress"
