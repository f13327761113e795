"""Weigh what a COPY brings from the context."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bulkhead.context import junk
from bulkhead.dockerfile.context import SENT, Selection, walk

if TYPE_CHECKING:
    from bulkhead.dockerfile.ignore import IgnoreRules

_ARCHIVES = {".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z"}  # they can be what an image is made of
_HEAVY = {suffix for kind in junk.KINDS if kind.needs_size for suffix in kind.suffixes} - _ARCHIVES  # models and data
_SECRETS = re.compile(
    r"\.env(\.(local|prod|production|staging))?|\.npmrc|\.yarnrc\.yml|\.pypirc|\.netrc|\.git-credentials|\.htpasswd|\.pgpass|"
    r"id_(rsa|dsa|ecdsa|ed25519)|credentials(\.json)?|(service[-_]?account|client[-_]secret).*\.json|.*\.(pem|key|p12|pfx|kdbx)|"
    r"kubeconfig|\.dockerconfigjson"
)


@dataclass
class Cargo:
    """What a COPY brings."""

    bytes: int = 0
    heavy: dict[str, int] = field(
        default_factory=dict
    )  # directories at the top, and what models and data in them weigh
    secrets: list[str] = field(default_factory=list)  # paths of what can be a secret, by its name


def weigh(context: str, rules: IgnoreRules, paths: tuple[str, ...]) -> Cargo:
    """Return what is sent of some paths of a context.

    Raises:
        OSError: a directory cannot be read.
    """
    cargo = Cargo()
    for entry in walk(context, rules, Selection(context, paths)):
        if entry.fate != SENT or entry.is_directory:
            continue
        cargo.bytes += entry.size
        name = entry.name.lower()
        if name[name.rfind(".") :] in _HEAVY:
            place = entry.directory.partition("/")[0] + "/" if entry.directory else entry.name
            cargo.heavy[place] = cargo.heavy.get(place, 0) + entry.size
        if may_be_secret(entry.path):
            cargo.secrets.append(entry.path)
    return cargo


def may_be_secret(path: str) -> bool:
    """Return whether a file can be a secret, by its name.

    >>> may_be_secret("deploy/id_rsa"), may_be_secret(".aws/credentials"), may_be_secret(".env.example")
    (True, True, False)
    """
    return bool(_SECRETS.fullmatch(path.rpartition("/")[2].lower()))
