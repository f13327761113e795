"""No secret of a command line is shown."""

from __future__ import annotations

import pytest

from bulkhead.docker.redaction import redacted

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["docker", "build", "--build-arg", "TOKEN=a b=c", "."], "docker build --build-arg TOKEN=… ."),
        (["docker", "build", "--build-arg=TOKEN=a", "."], "docker build --build-arg=TOKEN=… ."),
        (["docker", "build", "--secret", "id=a,env=A", "."], "docker build --secret id=… ."),
        (["docker", "build", "-t", "a/b:1", "--no-cache", "src"], "docker build -t a/b:1 --no-cache src"),
        (["docker", "pull", "registry:5000/app:1"], "docker pull registry:5000/app:1"),
        (["docker", "buildx", "bake", "--set", "*.args.TOKEN=a", "app"], "docker buildx bake --set *.args.TOKEN=… app"),
        (["docker-buildx", "bake", "--var", "A=b", "--file", "-"], "docker-buildx bake --var A=… --file -"),
        (
            ["docker", "buildx", "build", "--cache-to", "type=s3,secret_access_key=a", "--output=type=local,dest=x", "."],
            "docker buildx build --cache-to type=… --output=type=… .",
        ),
        (["docker", "-H", "ssh://me@host/x", "build", "."], "docker -H ssh://host/… build ."),
        (["docker", "compose", "-f", "c.yml", "up", "--build", "web"], "docker compose -f c.yml up --build web"),
        (["sh", "-c", "dd if=/dev/zero of=/big bs=1M"], "sh -c dd if=… of=… bs=…"),
        (["/bin/sh", "-c", "make -j8 && pip install torch"], "/bin/sh -c make -j… && pip install …"),
        (["/bin/bash", "-euxo", "pipefail", "-c", "A=b make"], "/bin/bash -e… pipefail -c A=… make"),
        (["sh", "-c", "git clone https://me:t@ken@host/a && mail you@b"], "sh -c git clone https://host/… && mail …"),
        (["apt-get", "install", "-y", "gcc"], "apt-get install -y …"),
    ],
)  # fmt: skip
def test_harmless_words_are_shown(words: list[str], shown: str) -> None:
    assert redacted(words) == shown


@pytest.mark.parametrize(
    "words",
    [
        ["docker", "build", "--password", SECRET, "."],
        ["docker", "build", f"--password={SECRET}=", "."],
        ["docker", "build", f"--new-option={SECRET}=x", "."],
        ["docker", "build", "--build-arg", f"{SECRET}==", "."],
        ["docker", "build", "--cache-from", f'"secret=a,{SECRET}=b"', "."],
        ["docker", "build", f"https://{SECRET}/x@host/app.git"],
        ["docker", "build", f"https://host/{SECRET}.tar?token={SECRET}"],
        ["docker", "build", f"{SECRET}@host:app"],
        ["docker", "compose", "run", "--build", "-e", SECRET, "web", "login", SECRET],
        ["sh", "-c", f"docker login -u me -p {SECRET} && docker build --build-arg {SECRET} ."],
        ["sh", "-c", f"mysql -p{SECRET}; curl -H 'Authorization: Bearer {SECRET}' https://h/{SECRET}"],
        ["sh", "-c", f"echo 'a; {SECRET}' | docker login --password-stdin"],
        ["sh", "-c", f"cat <<EOF >.npmrc\n_authToken; {SECRET}\nEOF"],
        ["sh", "-c", f"echo {SECRET}=x | base64 -d"],
        ["sh", "-c", f"echo 'begins; {SECRET}"],
        ["sh", "-c", f"make\n{SECRET}"],
        ["sh", "-c", f'x=("{SECRET}")'],
        ["login", SECRET],
        ["env", f"TOKEN={SECRET}", "make"],
    ],
)
def test_what_is_not_known_to_be_harmless_is_hidden(words: list[str]) -> None:
    assert SECRET not in redacted(words)
    assert "…" in redacted(words)


def test_command_of_two_hundred_characters_is_shown_whole() -> None:
    whole = "sh -c " + "make && " * 24 + "ma"
    assert redacted(["sh", "-c", whole.removeprefix("sh -c ")]) == whole
    assert redacted(["sh", "-c", whole.removeprefix("sh -c ") + "k"]) == f"{whole[:199]}…"


def test_long_command_is_shown_in_part() -> None:
    assert len(redacted(["sh", "-c", "make && " * 1000])) == 200
