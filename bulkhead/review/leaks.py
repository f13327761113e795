"""Rules about secrets that stay in an image."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from bulkhead.review.model import ERROR, Rule
from bulkhead.text import abbreviated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bulkhead.dockerfile.syntax import Instruction
    from bulkhead.review.model import Image, ImageFinding

_LONGEST = 2**16  # characters of a file that are read
_NAME = re.compile(
    r"(.*[_-])?(PASSWORD|PASSWD|PASSPHRASE|SECRET|SECRET_KEY|SECRET_ACCESS_KEY|PRIVATE_KEY|ACCESS_TOKEN|AUTH_TOKEN|TOKEN|API_?KEY|"
    r"ACCESS_KEY|ACCESS_KEY_ID|CREDENTIALS|SSH_KEY|SECRET_KEY_BASE)",
    re.IGNORECASE,
)
_PUBLIC = re.compile(r"(NEXT_PUBLIC|NUXT_PUBLIC|VITE|REACT_APP|PUBLIC|GATSBY|EXPO_PUBLIC)_.*", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r".*(dummy|placeholder|change.?me|example|unused|not.?used|not.?needed|build.?(time|only)?|insecure|fake|none|null|todo|xxx).*|"
    r"[01x]|true|false|test(ing)?",
    re.IGNORECASE,
)
_WITH_PASSWORD = re.compile(r"\w+://[^/:@\s]*:(?P<password>[^/@\s]+)@")
_PRIVATE = re.compile(r"PRIVATE KEY-----")
_LOGIN = re.compile(r"(?i)(_authToken|_auth|_password|npmAuthToken|password)\s*[=:]\s*(?!\s*[\"']?\$\{)\S")
_SETTING = re.compile(r"(?m)^\s*(?:export\s+)?(\w+)\s*=\s*[\"']?([^\s\"'#]+)")


def secret_copied(image: Image) -> Iterator[ImageFinding]:
    """Find secrets that a COPY or an ADD brings into the image."""
    for layer in image.layers:
        if not layer.sources:
            continue
        found = sorted(
            path for path in image.cargo(layer.sources).secrets if _holds_secret(os.path.join(image.context, path))
        )
        if found:
            yield RULES[0].finding(
                layer.instruction,
                f"{abbreviated(found)} {'becomes' if len(found) == 1 else 'become'} part of the image: everybody who has the image "
                "can read it, also if a later RUN removes it. Pass it at run time, or to a RUN as a secret",
                instead=_instead(found),
            )


def _instead(found: list[str]) -> str:
    name = os.path.basename(found[0]).lstrip(".").partition(".")[0]
    ignored = "\n".join(found[:5])
    return f"# .dockerignore\n{ignored}\n# Dockerfile\nRUN --mount=type=secret,id={name} COMMAND"


def _holds_secret(path: str) -> bool:
    """Return whether the content of a file is a secret. One that cannot be read counts by its name."""
    name = os.path.basename(path).lower()
    if not os.path.isfile(path):  # nobody may ever write to a pipe
        return False
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            content = file.read(_LONGEST)
    except OSError:
        return False
    if name.endswith((".pem", ".key")):
        return bool(_PRIVATE.search(content))
    if name in (".npmrc", ".yarnrc.yml", ".pypirc", ".netrc"):
        return bool(_LOGIN.search(content)) or (name == ".netrc" and "password" in content)
    if name.startswith(".env"):
        return any(_is_secret(match[1], match[2]) for match in _SETTING.finditer(content))
    if name.endswith(".json"):
        return bool(
            re.search(r"private_key|client_secret|refresh_token|\"auth\"|secret|password|token", content, re.IGNORECASE)
        )
    return bool(content.strip())


def secret_in_variable(image: Image) -> Iterator[ImageFinding]:
    """Find secrets in ENV and ARG: `docker history` shows them."""
    for layer in image.layers:
        instruction = layer.instruction
        if instruction.name in ("ENV", "ARG") and (names := [*_secrets(instruction)]):
            yield RULES[1].finding(
                instruction,
                f"{', '.join(names)}: `docker history` and `docker inspect` show the value of {instruction.name} to everybody "
                "who has the image",
                instead=f"RUN --mount=type=secret,id={names[0].lower()},env={names[0]} COMMAND"
                if instruction.name == "ARG"
                else f"# docker run --env {names[0]} …, or --mount=type=secret in the RUN that needs it",
            )


def _secrets(instruction: Instruction) -> Iterator[str]:
    for argument in instruction.arguments:
        name, equals, value = argument.partition("=")
        value = value.strip("'\"")
        if not equals and instruction.name == "ARG":  # --build-arg gives it
            if _NAME.fullmatch(name) and not _PUBLIC.fullmatch(name):
                yield name
        elif _is_secret(name, value):
            yield name


def _is_secret(name: str, value: str) -> bool:
    """Return whether a variable has a secret."""
    if not value or value.startswith(("$", "/", "%")) or _PUBLIC.fullmatch(name):
        return False
    if match := _WITH_PASSWORD.match(value):
        return not _PLACEHOLDER.fullmatch(match["password"]) and not match["password"].startswith("$")
    return bool(_NAME.fullmatch(name)) and not _PLACEHOLDER.fullmatch(value)


RULES = (
    Rule("secret-copied", ERROR, "A file with a secret becomes part of the image", secret_copied, needs_context=True),
    Rule("secret-in-variable", ERROR, "A secret is in ENV or ARG", secret_in_variable),
)
