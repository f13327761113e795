"""What a build uses.

The rules are those of BuildKit's frontend/dockerfile/dockerfile2llb, and of Docker's reference of Dockerfiles.
"""

from __future__ import annotations

from typing import Any

import pytest

from bulkhead.dockerfile import stages
from bulkhead.dockerfile.stages import EVERYTHING, BuildInputs, Options, read
from bulkhead.dockerfile.syntax import DockerfileError, parse


def inputs(text: str, **options: Any) -> BuildInputs:
    return read(parse(text.encode()), Options(**{"platform": "linux/arm/v7", **options}))


@pytest.mark.parametrize(
    ("text", "options", "images"),
    [
        ("FROM a", {}, ["a"]),
        ("FROM scratch", {}, []),
        ("FROM a\nFROM b", {}, ["b"]),
        ("FROM a AS x\nFROM x", {}, ["a"]),
        ("FROM a AS X\nFROM x", {}, ["a"]),
        ("FROM a AS x\nFROM b AS y\nFROM x", {}, ["a"]),
        ("FROM a AS x\nFROM b\nCOPY --from=x /f /f", {}, ["a", "b"]),
        ("FROM a AS x\nFROM b\nCOPY --from=X /f /f", {}, ["a", "b"]),
        ("FROM a\nFROM b\nCOPY --from=0 /f /f", {}, ["a", "b"]),
        ("FROM b\nCOPY --from=c:1 /f /f", {}, ["b", "c:1"]),
        ("FROM b\nRUN --mount=from=c,target=/c x", {}, ["b", "c"]),
        ("FROM b\nRUN --mount=type=cache,target=/c x", {}, ["b"]),
        ("FROM b\nRUN --mount=from=scratch,target=/c x", {}, ["b"]),
        ("FROM a AS x\nFROM b AS y\nFROM c", {"target": "y"}, ["b"]),
        ("FROM a AS x\nFROM b AS y\nFROM c", {"target": "X"}, ["a"]),
        # Substitutions.
        ("ARG V=1\nFROM a:$V", {}, ["a:1"]),
        ("ARG V=1\nFROM a:$V", {"build_args": {"V": "2"}}, ["a:2"]),
        ("ARG V\nFROM a:${V:-3}", {}, ["a:3"]),
        ("ARG V=\nFROM a:${V:-3}", {}, ["a:3"]),
        ("ARG V=\nFROM a${V-3}", {}, ["a"]),
        ("ARG V\nFROM a${V:+:$V}", {"build_args": {"V": "2"}}, ["a:2"]),
        ("ARG V\nFROM a${V:+:$V}", {}, ["a"]),
        ("ARG A=b B=$A-c\nARG C=${B}-d\nFROM x:$C", {}, ["x:b-c-d"]),
        ("ARG A=b B=$A-c\nFROM x:$B", {"build_args": {"A": "q"}}, ["x:q-c"]),
        ('ARG A="b"\nFROM $A', {}, ["b"]),
        ("ARG A=v1.2.3\nFROM a:${A#v}", {}, ["a:1.2.3"]),
        ("ARG A=1.2.3\nFROM a:${A%.*}", {}, ["a:1.2"]),
        ("ARG A=1.2.3\nFROM a:${A%%.*}", {}, ["a:1"]),
        ("ARG A=1.2.3\nFROM a:${A//./-}", {}, ["a:1-2-3"]),
        ("ARG A=1.2.3\nFROM a:${A/./-}", {}, ["a:1-2.3"]),
        # Stages named by variables, and those of platforms.
        ("FROM a AS build-linux\nFROM b AS build-windows\nFROM build-${TARGETOS}", {}, ["a"]),
        ("FROM a:$TARGETARCH-$TARGETVARIANT", {}, ["a:arm-v7"]),
        ("FROM a:$TARGETARCH", {"platform": "linux/amd64"}, ["a:amd64"]),
        ("FROM a:$TARGETARCH", {"build_args": {"TARGETARCH": "x"}}, ["a:x"]),
        ("ARG S=dev\nFROM a AS dev\nFROM b AS prod\nFROM $S", {"build_args": {"S": "prod"}}, ["b"]),
        ("FROM a AS t\nFROM t-$TARGETSTAGE", {}, ["t-default"]),
        ("FROM t-$TARGETSTAGE AS Last", {}, ["t-last"]),
        # --build-context
        ("FROM alpine", {"contexts": {"alpine": "docker-image://alpine:edge"}}, ["alpine:edge"]),
        ("FROM docker.io/library/alpine:latest", {"contexts": {"alpine": "docker-image://b"}}, ["b"]),
        ("FROM alpine:3", {"contexts": {"alpine": "docker-image://b"}}, ["alpine:3"]),
        ("FROM a AS x\nRUN y\nFROM b\nCOPY --from=x . .", {"contexts": {"x": "docker-image://c"}}, ["b", "c"]),
        ("FROM a\nCOPY --from=files . .", {"contexts": {"files": "./files"}}, ["a"]),
        # What names no image: heredocs, comments, ONBUILD for others.
        ("FROM a\nRUN <<EOF\nFROM b\nfrom c import d\nEOF", {}, ["a"]),
        ("FROM a\n# FROM b\nONBUILD COPY --from=c /x /", {}, ["a"]),
        ("FROM a AS x\nONBUILD COPY --from=c /x /\nFROM x", {}, ["a", "c"]),
    ],
)
def test_images_that_a_build_begins_with_or_copies_from(text: str, options: dict[str, Any], images: list[str]) -> None:
    assert sorted(inputs(text, **options).images) == images


@pytest.mark.parametrize(
    ("text", "options", "runs"),
    [
        ("FROM a\nRUN x\nRUN y", {}, 2),
        ("FROM a AS x\nRUN x\nFROM b\nRUN y", {}, 1),
        ("FROM a AS x\nRUN x\nRUN z\nFROM b\nRUN y", {"target": "x"}, 2),
        ("FROM a AS x\nRUN x\nFROM x\nRUN y", {}, 2),
        ("FROM a AS x\nRUN x\nFROM b\nRUN --mount=from=x,target=/x y", {}, 2),
        ("FROM a AS x\nONBUILD RUN x\nFROM x\nRUN y", {}, 2),
        ("FROM a AS x\nRUN x\nFROM x", {"contexts": {"x": "./dir"}}, 0),
        ("FROM a\nRUN <<EOF\nRUN x\nEOF", {}, 1),
    ],
)
def test_stages_that_are_not_used_cost_nothing(text: str, options: dict[str, Any], runs: int) -> None:
    assert inputs(text, **options).runs == runs


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("COPY . .", [EVERYTHING]),
        ("COPY ./ /x", [EVERYTHING]),
        ("COPY / /x", [EVERYTHING]),
        ("COPY a b/ ./c /x", ["a", "b", "c"]),
        ("COPY /a/../b /../c /x", ["b", "c"]),
        ("COPY *.txt src/**/x /x", ["*.txt", "src/**/x"]),
        ('COPY ["a b", "/x"]', ["a b"]),
        ("ADD https://example.org/a a.tar.gz /x", ["a.tar.gz"]),
        ("ADD git@example.org:a.git /x", []),
        ("COPY <<EOF a /x\nb\nEOF", ["a"]),
        ("COPY --parents a/./b /x", ["a/b"]),
        ("RUN --mount=type=bind,source=src,target=/src x", ["src"]),
        ("RUN --mount=target=/src x", [EVERYTHING]),
        ("RUN --mount=type=bind,from=b,target=/src x", []),
        ("RUN --mount=type=cache,target=/src x", []),
        ("RUN --mount=type=secret,id=s x", []),
        # dispatchRunMounts counts a tmpfs like a bind mount of everything.
        ("COPY a /a\nRUN --mount=type=tmpfs,target=/src x", [EVERYTHING]),
        ("ARG D=src\nCOPY $D/a /x", ["src/a"]),
        ("ENV D=src E=$D/b\nCOPY ${E} /x", ["src/b"]),
        ("ARG D\nCOPY a${D:+b} /x", ["a"]),
        ("COPY --from=b a /x", []),
        ("RUN x", []),
    ],
)
def test_what_is_copied_from_the_context(text: str, paths: list[str]) -> None:
    found = inputs(f"FROM scratch AS b\nFROM scratch\n{text}").paths()
    assert sorted(found) == sorted(paths)


def test_variable_that_only_a_base_image_can_have_set_makes_a_path_unknown() -> None:
    found = inputs("FROM a\nENV D=$APP_HOME/x\nCOPY $D/y /y")
    assert (found.paths(), found.copies[0].unknown) == ((EVERYTHING,), {"D"})
    assert inputs("FROM scratch\nCOPY a$NOTHING /y").paths() == ("a",)


def test_stage_inherits_variables_and_what_its_parent_leaves_to_it() -> None:
    text = "FROM scratch AS p\nARG D=src\nONBUILD COPY $D/a /\nFROM p\nCOPY $D/b /"
    assert inputs(text).paths() == ("src/a", "src/b")


def test_arg_before_the_first_stage_counts_in_a_stage_that_asks_for_it() -> None:
    assert inputs("ARG D=src\nFROM scratch\nARG D\nCOPY a$D /x").paths() == ("asrc",)
    assert inputs("ARG D=src\nFROM scratch\nCOPY a$D /x").paths() == ("a",)


def test_every_stage_is_protected_although_only_the_target_is_built() -> None:
    found = inputs("FROM a AS x\nCOPY one /\nFROM b AS y\nCOPY two /", target="y")
    assert found.paths() == ("two",)
    assert [each.paths for each in found.all_copies] == [("one",), ("two",)]


def test_directory_in_place_of_an_image_is_asked_for_what_is_copied_from_it() -> None:
    text = "FROM a\nCOPY --from=files x y/ /z"
    found = inputs(text, contexts={"files": "./files", "unused": "./unused"})
    assert (found.contexts, found.paths("files"), found.paths()) == ({"files": "./files"}, ("x", "y"), ())
    assert inputs("FROM files\nRUN x", contexts={"files": "./files"}).paths("files") == (EVERYTHING,)
    assert inputs("FROM a AS files\nRUN x", contexts={"files": "./files"}).paths("files") == (EVERYTHING,)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("RUN x\nFROM a", {}, "Dockerfile:1: RUN comes before the first FROM: only ARG can stand there"),
        ("ARG a", {}, "Dockerfile has no FROM"),
        ("FROM $A", {}, "Dockerfile:1: `$A` is empty. Give its variable a default, or a --build-arg"),
        ("ARG A\nFROM ${A:?missing}", {}, "Dockerfile:2: A: missing"),
        ("FROM a AS b\nFROM c AS d", {"target": "e"}, "Dockerfile has no stage e. It has b, d"),
        ("FROM a", {"target": "e"}, "Dockerfile has no stage e. None of its stages has a name"),
        ("FROM a\nCOPY --from=1 x y", {}, "Dockerfile:2: there is no stage 1"),
        (
            "FROM a AS x\nCOPY --from=x a b",
            {},
            "Dockerfile:2: the stage x must come before the stage that copies from it",
        ),
        (
            "FROM a\nCOPY --from=y a b\nFROM b AS y\nFROM a\nCOPY --from=0 a b",
            {},
            "Dockerfile:2: the stage y must come before the stage that copies from it",
        ),
        (
            "FROM a\nCOPY --from=$X a b",
            {},
            "Dockerfile:2: --from can have no variables. Begin a stage with that image, and give the stage a name",
        ),
        (
            "FROM a\nRUN --mount=from=$X,target=/x y",
            {},
            "Dockerfile:2: from= can have no variables. Begin a stage with that image, and give the stage a name",
        ),
        (
            "FROM a\nRUN --mount=type=bnd y",
            {},
            "Dockerfile:2: --mount has no type bnd. It has bind, cache, tmpfs, secret, ssh",
        ),
        ("FROM a\nRUN --mount=tpye=bind y", {}, "Dockerfile:2: --mount has no key tpye"),
        ("FROM a\nCOPY ${X /y", {}, "Dockerfile:2: unsupported modifier () in `${X`"),
        ("FROM a\nENV A=${B:?set B}", {}, "Dockerfile:2: `B}` has no =: ENV needs name=value"),
        ("FROM a\nENV A=${B:?}", {}, "Dockerfile:2: B: is not allowed to be unset"),
    ],
)
def test_what_docker_refuses_is_refused_with_its_place(text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DockerfileError) as error:
        inputs(text, **options)
    assert str(error.value) == message


def test_fault_in_a_stage_that_is_not_used_does_not_matter() -> None:
    assert inputs("FROM a\nCOPY ${X /y\nFROM b").images == ("b",)


@pytest.mark.parametrize(
    ("machine", "platform"),
    [("x86_64", "linux/amd64"), ("AMD64", "linux/amd64"), ("arm64", "linux/arm64"), ("riscv64", "linux/riscv64")],
)
def test_default_platform_is_the_machines(machine: str, platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert stages.default_platform() == platform


def test_option_without_a_value_has_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "there")
    assert stages.assigned(["A=b=c", "HERE", "NOWHERE"]) == {"A": "b=c", "HERE": "there", "NOWHERE": ""}


def test_stages_say_which_of_them_the_result_consists_of() -> None:
    text = (
        "FROM a:1 AS Base\nENV X=1\nONBUILD RUN x\nFROM b AS build\nRUN y\nFROM c AS unused\n"
        "FROM base\nARG Y=$X\nCOPY --from=build /y /"
    )
    stages = inputs(text).stages
    assert [(stage.name, stage.base, stage.is_in_result) for stage in stages] == [
        ("base", "a:1", True),
        ("build", "b", False),
        ("", "", True),
    ]
    assert [each.name for each in stages[2].instructions] == ["RUN", "ARG", "COPY"]
    assert stages[2].variables == {"X": "1", "Y": "1"}
    assert [stage.is_in_result for stage in inputs(text, target="build").stages] == [True]
