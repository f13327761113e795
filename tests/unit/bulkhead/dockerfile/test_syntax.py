"""The text of a Dockerfile.

Cases are from BuildKit: frontend/dockerfile/parser (testfiles, testfiles-negative, parser_test.go, parser_heredoc_test.go,
line_parsers_test.go, json_test.go) and frontend/dockerfile/instructions/parse_test.go.
"""

from __future__ import annotations

import pytest

from bulkhead.dockerfile import syntax
from bulkhead.dockerfile.syntax import DockerfileError, Heredoc, Instruction, parse, quoted_words
from bulkhead.dockerfile.words import WordError


def instructions(text: str) -> list[Instruction]:
    return [*parse(text.encode()).instructions]


def short(text: str) -> list[tuple[str, ...]]:
    """Return the names and the arguments of instructions."""
    return [(each.name, *each.arguments) for each in instructions(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # testfiles/continueIndent
        ("RUN echo hello\\\n  world\\\n  goodnight  \\\n  moon\\\nlight", "echo hello  world  goodnight    moonlight"),
        ("RUN echo hello  \\\n  world", "echo hello    world"),
        ("RUN echo hello  \\\nworld", "echo hello  world"),
        ("RUN echo hello \\\ngoodbye\\\nfrog", "echo hello goodbyefrog"),
        ("RUN echo hello  \\  \nworld", "echo hello  world"),
        ("RUN echo hi \\\n \\\n world \\\n\\\n good\\\n\\\nnight", "echo hi   world  goodnight"),
        ("RUN echo good\\\nbye\\\nfrog", "echo goodbyefrog"),
        ("RUN echo hello \\\n# a comment\n\n# another\n\nthis is more", "echo hello this is more"),
        ("RUN echo hello \\\n    # indented\n  more", "echo hello   more"),
        # testfiles/escapes, continue-at-eof, trailing-backslash
        ('RUN apt-get \\update && \\\n  apt-get \\"install znc -y', 'apt-get \\update &&   apt-get \\"install znc -y'),
        ("RUN foo \\\n\nbar \\\n\nbaz", "foo bar baz"),
        ("RUN something \\", "something"),
        ("RUN something \\\n\n", "something"),
        ("RUN dir c:\\\\", "dir c:\\\\"),
        ("RUN echo # no comment", "echo # no comment"),
        ("\t run\tx", "x"),
        ("RUN a\r\n", "a"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("\ufeffRUN a", "a"),
        ("#!/bin/sh\nRUN a", "a"),
        # testfiles/escape, escape-nonewline, escape-after-comment
        ("#escape = `\n\nRUN GOPATH `\n\\go", "GOPATH \\go"),
        ("# escape=`\n# no directive\nRUN a `\nb", "a b"),
        ("# comment\n# escape=`\nRUN a \\\n\\b", "a \\b"),
        ("\n# escape=`\nRUN a \\\nb", "a b"),
        ("# syntax=docker/dockerfile:1\n# EScape=`\nRUN a `\nb", "a b"),
        # jeztah-invalid-json-*
        ("RUN ['echo','single']", "['echo','single']"),
        ('RUN ["echo"', '["echo"'),
        ('RUN "[\\"echo\\"]"', '"[\\"echo\\"]"'),
        ("RUN [NaN]", "[NaN]"),
    ],
)
def test_lines_become_instructions(text: str, expected: str) -> None:
    assert short(text) == [("RUN", expected)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM\tubuntu:14.04", ("FROM", "ubuntu:14.04")),
        ("from a As b", ("FROM", "a", "As", "b")),
        # testfiles/ADD-COPY-with-JSON, json
        ("COPY\t.\t/go/src", ("COPY", ".", "/go/src")),
        ("ADD\t\tnull /", ("ADD", "null", "/")),
        ('COPY\t[ "test file", "/tmp" ]', ("COPY", "test file", "/tmp")),
        ("CMD []", ("CMD",)),
        ('CMD [""]', ("CMD", "")),
        ('CMD\t[\t"a",\t"b"\t]\t', ("CMD", "a", "b")),
        ('CMD ["abc 123", "♥", "\\" \\\\ \\/ \\n \\u0041"]', ("CMD", "abc 123", "♥", '" \\ / \n A')),
        ('ADD \\conf\\\\" /.znc', ("ADD", '\\conf\\\\"', "/.znc")),
        # testfiles/env
        ("ENV name value", ("ENV", "name=value")),
        ("ENV name=value name2=value2", ("ENV", "name=value", "name2=value2")),
        ('ENV name="value value1"', ("ENV", 'name="value value1"')),
        ("ENV name=value\\ value2", ("ENV", "name=value\\ value2")),
        ("ENV name='a\\'b'' c=d", ("ENV", "name='a\\'b''", "c=d")),
        ("LABEL maintainer foo@bar.com", ("LABEL", "maintainer=foo@bar.com")),
        ("ARG foo bar=1 'a b'=c", ("ARG", "foo", "bar=1", "'a b'=c")),
        # testfiles/multiple-volumes, health, args
        ("VOLUME /a /b", ("VOLUME", "/a", "/b")),
        ("HEALTHCHECK --retries=3 \\\n  CMD /app/check.sh --quiet", ("HEALTHCHECK", "CMD", "/app/check.sh --quiet")),
        ('HEALTHCHECK --timeout=3s CMD ["foo"]', ("HEALTHCHECK", "CMD", "foo")),
        ("HEALTHCHECK NONE", ("HEALTHCHECK", "NONE")),
        ("EXPOSE 80 443/tcp", ("EXPOSE", "80", "443/tcp")),
        ('SHELL ["/bin/bash", "-c"]', ("SHELL", "/bin/bash", "-c")),
        ("STOPSIGNAL --odd SIGTERM", ("STOPSIGNAL", "SIGTERM")),
        ("MAINTAINER a b", ("MAINTAINER", "a b")),
    ],
)
def test_arguments_have_the_form_of_their_instruction(text: str, expected: tuple[str, ...]) -> None:
    assert short(text) == [expected]


@pytest.mark.parametrize(
    ("text", "flags", "arguments"),
    [
        # testfiles/flags
        ("COPY foo /tmp/", (), ("foo", "/tmp/")),
        ("COPY --chown=me foo /tmp/", (("chown", "me"),), ("foo", "/tmp/")),
        ("COPY --link foo /tmp/", (("link", "true"),), ("foo", "/tmp/")),
        ("COPY --link=FALSE -- foo /tmp/", (("link", "false"),), ("foo", "/tmp/")),
        ("COPY -- --foo /tmp/", (), ("--foo", "/tmp/")),
        ('COPY --chown="a b" x y', (("chown", "a b"),), ("x", "y")),
        ("COPY --exclude=*.md --exclude=*.o . /x", (("exclude", "*.md"), ("exclude", "*.o")), (".", "/x")),
        ("COPY --from=b --parents a /", (("from", "b"), ("parents", "true")), ("a", "/")),
        (
            "ADD --checksum=sha256:1 --keep-git-dir a b",
            (("checksum", "sha256:1"), ("keep-git-dir", "true")),
            ("a", "b"),
        ),
        ("FROM --platform=$BUILDPLATFORM a AS b", (("platform", "$BUILDPLATFORM"),), ("a", "AS", "b")),
        ("RUN --mount=target=/x --network=none y", (("mount", "target=/x"), ("network", "none")), ("y",)),
    ],
)
def test_flags_come_before_the_arguments(
    text: str, flags: tuple[tuple[str, str], ...], arguments: tuple[str, ...]
) -> None:
    assert [(each.flags, each.arguments) for each in instructions(text)] == [(flags, arguments)]


HEREDOCS = r"""FROM alpine:3.6
RUN <<EMPTY
EMPTY
RUN 3<<EMPTY2
EMPTY2
RUN "<<NOHEREDOC"
RUN <<INDENT
	foo
	bar
INDENT
RUN <<-UNINDENT2
	baz
	UNINDENT2
RUN <<-'NOEXPAND'
	don't expand $NAME
NOEXPAND
RUN <<COMMENT
# internal comment
from os import path
COMMENT
RUN --mount=type=cache,target=/foo <<MOUNT
echo hello
MOUNT
COPY <<FILE1 <<FILE2 /dest
content 1
FILE1
content 2
FILE2
COPY <<X <<Y /dest
Y
X
X
Y
RUN <<COMPLEX python3
print('hello world')
COMPLEX
COPY <<file.txt /dest
hello world
file.txt
RUN <<eo'f'
echo foo
eof
RUN <<eo\'f
echo foo
eo'f
RUN <<'one two'
echo bar
one two
RUN <<$EOF
$EOF
RUN <<  EOF  > foo
EOF
RUN ["<<EOF"]
ONBUILD RUN <<EOF
COPY . .
EOF
RUN cat <<A - \
  <<B
1
A
2
B
"""


def test_heredocs_are_read_to_their_ends() -> None:
    """parser_heredoc_test.go, TestParseExtractsHeredoc and TestParseJSONHeredoc."""
    assert [[*each.heredocs] for each in instructions(HEREDOCS)] == [
        [],
        [Heredoc("EMPTY")],
        [Heredoc("EMPTY2")],
        [],
        [Heredoc("INDENT", "\tfoo\n\tbar\n")],
        [Heredoc("UNINDENT2", "\tbaz\n", chomps=True)],
        [Heredoc("NOEXPAND", "\tdon't expand $NAME\n", expands=False, chomps=True)],
        [Heredoc("COMMENT", "# internal comment\nfrom os import path\n")],
        [Heredoc("MOUNT", "echo hello\n")],
        [Heredoc("FILE1", "content 1\n"), Heredoc("FILE2", "content 2\n")],
        [Heredoc("X", "Y\n"), Heredoc("Y", "X\n")],
        [Heredoc("COMPLEX", "print('hello world')\n")],
        [Heredoc("file.txt", "hello world\n")],
        [Heredoc("eof", "echo foo\n", expands=False)],
        [Heredoc("eo'f", "echo foo\n")],
        [Heredoc("one two", "echo bar\n", expands=False)],
        [Heredoc("$EOF")],
        [Heredoc("EOF")],
        [],
        [Heredoc("EOF", "COPY . .\n")],
        [Heredoc("A", "1\n"), Heredoc("B", "2\n")],
    ]


@pytest.mark.parametrize("word", ["<<EOF", "<<'EOF'", '<<"EOF"', "<<-EOF", "<<-'EOF'", '<<EO"F"', "<< EOF", "<<- EOF"])
def test_word_begins_a_heredoc(word: str) -> None:
    found = syntax.heredoc_of(word)
    assert found
    assert found.name == "EOF"


@pytest.mark.parametrize("word", ["", "EOF", "<<", "<<-", "<EOF", "<<<EOF", "<<EOF sh"])
def test_word_begins_no_heredoc(word: str) -> None:
    assert syntax.heredoc_of(word) is None


@pytest.mark.parametrize("word", ["<<'EOF", '<<"EOF', "<<EOF'"])
def test_heredoc_with_an_open_quote_is_refused(word: str) -> None:
    with pytest.raises(WordError):
        syntax.heredoc_of(word)


def test_instructions_know_their_lines() -> None:
    text = "# a comment\n\nFROM a\nRUN x \\\n  y\nRUN <<EOF\n1\nEOF\nCOPY a b\n"
    assert [(each.line, each.end) for each in instructions(text)] == [(3, 3), (4, 5), (6, 8), (9, 9)]


def test_onbuild_has_an_instruction_of_its_own() -> None:
    (found,) = instructions("ONBUILD COPY --chown=me a b")
    assert found.trigger
    assert (found.trigger.name, found.trigger.sources, found.trigger.flag("chown")) == ("COPY", ("a",), "me")


def test_sources_are_neither_destination_nor_heredocs() -> None:
    (found,) = instructions("COPY a <<EOF b /dest/\nx\nEOF\n")
    assert found.sources == ("a", "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM a\nCOPPY x y", "Dockerfile:2: there is no instruction COPPY. Did you mean COPY?"),
        ("FROM a\nquux", "Dockerfile:2: there is no instruction QUUX"),
        ("", "Dockerfile has no instructions"),
        ("# only comments\n", "Dockerfile has no instructions"),
        ("FROM a\n\nRUN <<EOF\nx\n", "Dockerfile:3: the heredoc EOF does not end"),
        ("FROM a\nENV PATH", "Dockerfile:2: ENV needs a name and a value"),
        ("FROM a\nENV a=b c", "Dockerfile:2: `c` has no =: ENV needs name=value"),
        ("FROM a\nENV", "Dockerfile:2: ENV needs an argument"),
        ("FROM a\nENV =b", "Dockerfile:2: a name before = is missing in ENV"),
        ("FROM a\nARG =b", "Dockerfile:2: a name before = is missing in ARG"),
        ("FROM a\nLABEL", "Dockerfile:2: LABEL needs an argument"),
        ("FROM a\nCOPY x", "Dockerfile:2: COPY needs a source and a destination"),
        ("FROM a\nADD x", "Dockerfile:2: ADD needs a source and a destination"),
        ("FROM a\nCOPY a <<EOF\nEOF", "Dockerfile:2: a heredoc cannot be the destination of COPY"),
        ("FROM a b", "Dockerfile:1: FROM needs an image, or an image, AS and a name"),
        ("FROM a AS 1b", "Dockerfile:1: `1b` cannot be the name of a stage: it must begin with a letter"),
        ("FROM a\nWORKDIR", "Dockerfile:2: WORKDIR needs exactly one argument"),
        ("FROM a\nEXPOSE", "Dockerfile:2: EXPOSE needs an argument"),
        ('FROM a\nVOLUME [""]', "Dockerfile:2: VOLUME cannot be empty"),
        ("FROM a\nHEALTHCHECK", "Dockerfile:2: HEALTHCHECK needs an argument"),
        ("FROM a\nHEALTHCHECK CMD", "Dockerfile:2: HEALTHCHECK CMD needs a command"),
        ("FROM a\nHEALTHCHECK NONE x", "Dockerfile:2: HEALTHCHECK NONE takes no arguments"),
        ("FROM a\nHEALTHCHECK CONNECT TCP", "Dockerfile:2: HEALTHCHECK needs CMD or NONE, not CONNECT"),
        ("FROM a\nSHELL bash", 'Dockerfile:2: SHELL needs its arguments as JSON, such as ["/bin/bash", "-c"]'),
        ("FROM a\nONBUILD", "Dockerfile:2: ONBUILD needs an instruction"),
        ("FROM a\nONBUILD ONBUILD RUN x", "Dockerfile:2: ONBUILD cannot have ONBUILD"),
        ("FROM a\nONBUILD FROM scratch", "Dockerfile:2: ONBUILD cannot have FROM"),
        ("FROM a\nONBUILD COPY x", "Dockerfile:2: COPY needs a source and a destination"),
        ('FROM a\nCMD ["a", 42]', "Dockerfile:2: a JSON array must have strings only"),
        ('FROM a\nCMD ["a", ["b"]]', "Dockerfile:2: a JSON array must have strings only"),
        ("FROM a\nMAINTAINER --boo me", "Dockerfile:2: MAINTAINER has no flag --boo; it has none"),
        (
            "FROM a\nRUN --mont=x y",
            "Dockerfile:2: RUN has no flag --mont; it has --mount, --network, --security, --device",
        ),
        ("FROM a\nCOPY --from a b", "Dockerfile:2: the flag --from needs a value"),
        ("FROM a\nCOPY --link=1 a b", "Dockerfile:2: the flag --link must be true or false, not 1"),
        ("FROM a\nCOPY --link= a b", "Dockerfile:2: the flag --link must be true or false, not empty"),
        ("FROM a\nCOPY --from=a --from=b a b", "Dockerfile:2: the flag --from is there twice"),
        ("# escape=`\n# escape=\\\nFROM a", "Dockerfile:2: only one escape directive can be used"),
        ("# escape=x\nFROM a", "Dockerfile:1: the escape character must be \\ or `, not x"),
        ("FROM a\nLABEL a=" + "x" * 70_000, "Dockerfile:2: the line is longer than 65,535 bytes"),
        (
            "# syntax=example.org/frontend:1\nwhatever",
            "Dockerfile is not read by Docker's own frontend but by example.org/frontend:1, as its first lines say",
        ),
        (
            "#!/bin/sh\n// syntax=x\n",
            "Dockerfile is not read by Docker's own frontend but by x, as its first lines say",
        ),
    ],
)
def test_what_docker_refuses_is_refused_in_a_sentence_with_its_place(text: str, message: str) -> None:
    with pytest.raises(DockerfileError) as error:
        parse(text.encode())
    assert str(error.value) == message


@pytest.mark.parametrize(
    "frontend",
    ["docker/dockerfile:1", "docker.io/docker/dockerfile:1.7-labs", "docker/dockerfile-upstream@sha256:1"],
)
def test_dockers_own_frontends_are_read(frontend: str) -> None:
    assert short(f"# syntax={frontend}\nFROM a") == [("FROM", "a")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # parser_test.go, TestParseWords
        ("foo", ["foo"]),
        ("foo bar", ["foo", "bar"]),
        ("foo\\ bar", ["foo\\ bar"]),
        ("foo=bar", ["foo=bar"]),
        ("foo bar 'abc xyz'", ["foo", "bar", "'abc xyz'"]),
        ('foo bar "abc xyz"', ["foo", "bar", '"abc xyz"']),
        ('föo bàr "âbc xÿz"', ["föo", "bàr", '"âbc xÿz"']),
        ("a ''", ["a", "''"]),
    ],
)
def test_words_keep_their_quotes(text: str, expected: list[str]) -> None:
    assert quoted_words(text, "\\") == expected
