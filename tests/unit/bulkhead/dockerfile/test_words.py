"""Variables and words of a Dockerfile.

The tables are those of BuildKit: frontend/dockerfile/shell/envVarTest, wordsTest and lex_test.go.
"""

from __future__ import annotations

import pytest

from bulkhead.dockerfile.words import WordError, expand, split

ENVIRONMENT = {"PWD": "/home", "SHELL": "bash", "KOREAN": "한국어", "NULL": ""}
TEXTS = r"""
hello | hello
he'll'o | hello
he'llo | error
he\'llo | he'llo
he\\'llo | error
abc\tdef | abctdef
"abc\tdef" | abc\tdef
"abc\\tdef" | abc\tdef
'abc\tdef' | abc\tdef
hello\ | hello
hello\\ | hello\
"hello | error
"hello\" | error
"hel'lo" | hel'lo
'hello | error
'hello\' | hello\
'hello\there' | hello\there
'hello\\there' | hello\\there
"''" | ''
$. | $.
he$1x | hex
he$.x | he$.x
he$pwd. | he.
he$PWD | he/home
he\$PWD | he$PWD
he\\$PWD | he\/home
"he\$PWD" | he$PWD
"he\\$PWD" | he\/home
\${} | ${}
\${}aaa | ${}aaa
he\${} | he${}
he\${}xx | he${}xx
${} | error
${}aaa | error
he${} | error
he${}xx | error
he${hi} | he
he${hi}xx | hexx
he${PWD} | he/home
he${.} | error
he${XXX:-000}xx | he000xx
he${PWD:-000}xx | he/homexx
he${XXX:-$PWD}xx | he/homexx
he${XXX:-${PWD:-yyy}}xx | he/homexx
he${XXX:-${YYY:-yyy}}xx | heyyyxx
he${XXX:YYY} | error
he${XXX?} | error
he${XXX:?} | error
he${PWD?} | he/home
he${PWD:?} | he/home
he${NULL?} | he
he${NULL:?} | error
he${XXX:+${PWD}}xx | hexx
he${PWD:+${XXX}}xx | hexx
he${PWD:+${SHELL}}xx | hebashxx
he${XXX:+000}xx | hexx
he${PWD:+000}xx | he000xx
'he${XX}' | he${XX}
"he${PWD}" | he/home
"he'$PWD'" | he'/home'
"$PWD" | /home
'$PWD' | $PWD
'\$PWD' | \$PWD
'"hello"' | "hello"
he\$PWD | he$PWD
"he\$PWD" | he$PWD
'he\$PWD' | he\$PWD
he${PWD | error
he${PWD:=000}xx | error
he${PWD:+${PWD}:}xx | he/home:xx
he${XXX:-\$PWD:}xx | he$PWD:xx
he${XXX:-\${PWD}z}xx | he${PWDz}xx
안'녕'하세요 | 안녕하세요
안\\'녕하세요 | error
안녕$PWD | 안녕/home
$KOREAN | 한국어
${{aaa} | error
${aaa}} | }
${aaa | error
${{aaa:-bbb} | error
${aaa:-bbb}} | bbb}
${aaa:-bbb | error
${aaa:-bbb} | bbb
${aaa:-${bbb:-ccc}} | ccc
${aaa:-bbb ${foo} | error
${aaa:-bbb {foo} | bbb {foo
${:} | error
${:-bbb} | error
${:+bbb} | error
$1 |
${1} |
${1:+bbb} |
${1:-bbb} | bbb
$2 |
${2} |
${2:+bbb} |
${2:-bbb} | bbb
$999 |
${999} |
${999:+bbb} |
${999:-bbb} | bbb
$999aaa | aaa
${999}aaa | aaa
${999:+bbb}aaa | aaa
${999:-bbb}aaa | bbbaaa
$001 |
${001} |
${001:+bbb} |
${001:-bbb} | bbb
$001aaa | aaa
${001}aaa | aaa
${001:+bbb}aaa | aaa
${001:-bbb}aaa | bbbaaa
$@ |
${@} |
${@:+bbb} |
${@:-bbb} | bbb
$@@@ | @@
$@aaa | aaa
${@}aaa | aaa
${@:+bbb}aaa | aaa
${@:-bbb}aaa | bbbaaa
$* |
${*} |
${*:+bbb} |
${*:-bbb} | bbb
$# |
${#} |
${#:+bbb} |
${#:-bbb} | bbb
$? |
${?} |
${?:+bbb} |
${?:-bbb} | bbb
$- |
${-} |
${-:+bbb} |
${-:-bbb} | bbb
$$ |
${$} |
${$:+bbb} |
${$:-bbb} | bbb
$! |
${!} |
${!:+bbb} |
${!:-bbb} | bbb
$0 |
${0} |
${0:+bbb} |
${0:-bbb} | bbb
"""
CASES = [tuple(part.strip() for part in line.split(" | ")) for line in TEXTS.strip().splitlines()]


@pytest.mark.parametrize(
    ("text", "expected"), [case if len(case) == 2 else (case[0].removesuffix(" |"), "") for case in CASES]
)
def test_text_is_substituted_as_buildkit_does_it(text: str, expected: str) -> None:
    if expected == "error":
        with pytest.raises(WordError):
            expand(text, ENVIRONMENT)
    else:
        assert expand(text, ENVIRONMENT).text == expected


@pytest.mark.parametrize(
    ("text", "variables", "expected"),
    [
        ("x", {"DUMMY": "dummy"}, "x"),
        ("x ${UNUSED}", {"DUMMY": "dummy"}, "x "),
        ("x ${FOO}", {"FOO": "y"}, "x y"),
        ("${FOO-aaa} ${BAR-bbb} ${BAZ-ccc}", {"FOO": "xxx", "BAR": ""}, "xxx  ccc"),
        ("${FOO:-aaa} ${BAR:-bbb} ${BAZ:-ccc}", {"FOO": "xxx", "BAR": ""}, "xxx bbb ccc"),
        ("${FOO:-}", {"FOO": "xxx", "BAR": ""}, "xxx"),
        ("${FOO:-}", {}, ""),
        ("${FOO+aaa} ${BAR+bbb} ${BAZ+ccc}", {"FOO": "xxx", "BAR": ""}, "aaa bbb "),
        ("${FOO:+aaa} ${BAR:+bbb} ${BAZ:+ccc}", {"FOO": "xxx", "BAR": ""}, "aaa  "),
        ("${FOO?aaa}", {"FOO": "xxx", "BAR": ""}, "xxx"),
        ("${BAR?bbb}", {"FOO": "xxx", "BAR": ""}, ""),
        ("${BAZ?ccc}", {"FOO": "xxx", "BAR": ""}, None),
        ("${FOO:?aaa}", {"FOO": "xxx", "BAR": ""}, "xxx"),
        ("${BAR:?bbb}", {"FOO": "xxx", "BAR": ""}, None),
        ("${BAZ:?ccc}", {"FOO": "xxx", "BAR": ""}, None),
        ("${BAZ:?}", {"FOO": "xxx", "BAR": ""}, None),
        ("${FOO=aaa}", {"FOO": "xxx", "BAR": ""}, None),
        ("${FOO=:aaa}", {"FOO": "xxx", "BAR": ""}, None),
        ("${FOO=}", {}, None),
        ("${FOO#()[]{\\}^$.\\*\\?|\\\\}", {"FOO": "()[]{}^$.*?|\\x"}, "x"),
        ("${FOO%%\\**}", {"FOO": "xx**"}, "xx"),
        ("${FOO#*x*y}", {"FOO": "xxyy"}, "y"),
        ("${FOO#*}", {"FOO": "xxyy"}, "xxyy"),
        ("${FOO#$BAR}", {"FOO": "xxyy", "BAR": "x"}, "xyy"),
        ("${FOO#$BAR}", {"FOO": "xxyy", "BAR": ""}, "xxyy"),
        ("${FOO#}", {"FOO": "xxyy"}, "xxyy"),
        ("${FOO##*x}", {"FOO": "xxyy"}, "yy"),
        ("${FOO##}", {"FOO": "xxyy"}, "xxyy"),
        ("${FOO#?\\?}", {"FOO": "???y"}, "?y"),
        ("${ABC:-.}${FOO%x}${ABC:-.}", {"FOO": "xxyy"}, ".xxyy."),
        ("${FOO%%\\**\\*}", {"FOO": "a***yy*"}, "a"),
        ("${FOO%}", {"FOO": "xxyy"}, "xxyy"),
        ("${FOO%%$BAR}", {"FOO": "xxyy", "BAR": ""}, "xxyy"),
        ("${FOO:#}", {}, None),
        ("${FOO:##}", {}, None),
        ("${FOO:%}", {}, None),
        ("${FOO:%%}", {}, None),
        (
            "${FOO/$NEEDLE/.} - ${FOO//$NEEDLE/.}",
            {"FOO": "/foo*/*/*.txt", "NEEDLE": "\\*/"},
            "/foo.*/*.txt - /foo..*.txt",
        ),
        (
            "${FOO/$NEEDLE/} - ${FOO//$NEEDLE/}",
            {"FOO": "/tmp/tmp/bar.txt", "NEEDLE": "/tmp"},
            "/tmp/bar.txt - /bar.txt",
        ),
        (
            "${FOO/$NEEDLE/$REPLACEMENT} - ${FOO//$NEEDLE/$REPLACEMENT}",
            {"FOO": "/a/foo/b/c.txt", "NEEDLE": "/?/", "REPLACEMENT": "/"},
            "/foo/b/c.txt - /foo/c.txt",
        ),
        (
            "${FOO/$NEEDLE/$REPLACEMENT}",
            {"FOO": "http://google.de", "NEEDLE": "http://", "REPLACEMENT": "https://"},
            "https://google.de",
        ),
        ("${FOO//\\//\\/}", {"FOO": "/tmp/foo.txt"}, "\\/tmp\\/foo.txt"),
        ("${FOO/$BAR/ww}", {"FOO": "xxyy", "BAR": ""}, "wwxxyy"),
        ("${FOO//ww}", {"FOO": "xxyy"}, None),
        ("${FOO//}", {"FOO": "xxyy"}, None),
        ("${FOO///}", {"FOO": "xxyy"}, "xxyy"),
        ("${FOO///}", {}, ""),
    ],
)
def test_substitution_with_a_modifier(text: str, variables: dict[str, str], expected: str | None) -> None:
    if expected is None:
        with pytest.raises(WordError):
            expand(text, variables)
    else:
        assert expand(text, variables).text == expected


@pytest.mark.parametrize(
    ("variables", "text", "words"),
    [
        ({}, "hello${hi}bye", ["hellobye"]),
        ({"hi": "hi"}, "hello${hi}bye", ["hellohibye"]),
        ({"space": "abc  def"}, "hello${space}bye", ["helloabc", "defbye"]),
        ({"space": "abc  def"}, 'hello"${space}"bye', ["helloabc  defbye"]),
        ({"leading": "  ab c"}, "hello${leading}def", ["hello", "ab", "cdef"]),
        ({"trailing": "ab c   "}, "hello${trailing}d", ["helloab", "c", "d"]),
        ({}, 'hello" there  "', ["hello there  "]),
        ({}, "hello\\ there", ["hello there"]),
        ({}, 'hello\\" there', ['hello"', "there"]),
    ],
)
def test_words_are_split_after_substitution(variables: dict[str, str], text: str, words: list[str]) -> None:
    assert [*expand(text, variables).words] == words


def test_variables_without_a_value_are_named() -> None:
    assert expand("${FOO:-a} $BAR ${BAZ+x}", {"BAR": ""}).unset == {"FOO", "BAZ"}


def test_other_escape_character_leaves_backslashes_alone() -> None:
    assert expand(r"c:\a\$X", {"X": "b"}, "`").text == r"c:\a\b"


def test_split_leaves_variables_and_quotes_alone() -> None:
    assert split("<<EOF '$a b'", raw_quotes=True) == ["<<EOF", "'$a b'"]
    assert split("x${a:-b}") == ["x${a:-b}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${A:?needs a version}", "A: needs a version"),
        ("${A?}", "A: is not allowed to be unset"),
        ("${B:?}", "B: is not allowed to be empty"),
        ("${A", "unsupported modifier"),
        ("${A:=b}", "unsupported modifier"),
        ("${A:-" * 5000 + "}" * 5000, "its substitutions are nested too deeply"),
        ("'a", "a single quote is not closed in `'a`"),
    ],
)
def test_refusal_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(WordError) as error:
        expand(text, {"B": ""})
    assert str(error.value).startswith(message)
