"""One pattern of a .dockerignore, and the lines that patterns are read from.

The tables are those of github.com/moby/patternmatcher: TestMatches, TestMatch and TestReadAll.
"""

from __future__ import annotations

import pytest

from bulkhead.dockerfile.ignore import IgnoreRules
from bulkhead.dockerfile.patterns import PatternError, clean, parse, pattern_of, read_lines


def ignores(content: str, path: str) -> bool:
    return IgnoreRules(parse(content.encode(), ".dockerignore")).is_ignored(path)


MATCHES = [
    ("**", "file", True),
    ("**/", "file", True),
    ("**", "dir/file", True),
    ("**/", "dir/file", True),
    ("**/**", "dir/file", True),
    ("dir/**", "dir/file", True),
    ("dir/**", "dir/dir2/file", True),
    ("**/dir", "dir", True),
    ("**/dir", "dir/file", True),
    ("**/dir2/*", "dir/dir2/file", True),
    ("**/dir2/**", "dir/dir2/dir3/file", True),
    ("**file", "file", True),
    ("**file", "dir/file", True),
    ("**/file", "dir/file", True),
    ("**file", "dir/dir/file", True),
    ("**/file", "dir/dir/file", True),
    ("**/file*", "dir/dir/file", True),
    ("**/file*", "dir/dir/file.txt", True),
    ("**/file*txt", "dir/dir/file.txt", True),
    ("**/file*.txt", "dir/dir/file.txt", True),
    ("**/file*.txt*", "dir/dir/file.txt", True),
    ("**/**/*.txt", "dir/dir/file.txt", True),
    ("**/**/*.txt2", "dir/dir/file.txt", False),
    ("**/*.txt", "file.txt", True),
    ("**/**/*.txt", "file.txt", True),
    ("a**/*.txt", "a/file.txt", True),
    ("a**/*.txt", "a/dir/file.txt", True),
    ("a**/*.txt", "a/dir/dir/file.txt", True),
    ("a/*.txt", "a/dir/file.txt", False),
    ("a/*.txt", "a/file.txt", True),
    ("a/*.txt**", "a/file.txt", True),
    ("a[b-d]e", "ae", False),
    ("a[b-d]e", "ace", True),
    ("a[b-d]e", "aae", False),
    ("a[^b-d]e", "aze", True),
    (".*", ".foo", True),
    (".*", "foo", False),
    ("abc.def", "abcdef", False),
    ("abc.def", "abc.def", True),
    ("abc.def", "abcZdef", False),
    ("abc?def", "abcZdef", True),
    ("abc?def", "abcdef", False),
    ("a\\\\", "a\\", True),
    ("**/foo/bar", "foo/bar", True),
    ("**/foo/bar", "dir/foo/bar", True),
    ("**/foo/bar", "dir/dir2/foo/bar", True),
    ("abc/**", "abc", False),
    ("abc/**", "abc/def", True),
    ("abc/**", "abc/def/ghi", True),
    ("**/.foo", ".foo", True),
    ("**/.foo", "bar.foo", False),
    ("a(b)c/def", "a(b)c/def", True),
    ("a(b)c/def", "a(b)c/xyz", False),
    ("a.|)$(}+{bc", "a.|)$(}+{bc", True),
    (
        "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
        "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
        True,
    ),
    ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", True),
    ("a\\*b", "a*b", True),
    # TestMatch, from Go's own tests of filepath.Match.
    ("abc", "abc", True),
    ("*", "abc", True),
    ("*c", "abc", True),
    ("a*", "a", True),
    ("a*", "abc", True),
    ("a*", "ab/c", True),
    ("a*/b", "abc/b", True),
    ("a*/b", "a/c/b", False),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True),
    ("ab[b-d]", "abc", True),
    ("ab[e-g]", "abc", False),
    ("ab[^c]", "abc", False),
    ("ab[^b-d]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("a\\*b", "ab", False),
    ("a?b", "a☺b", True),
    ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False),
    ("a[^a][^a][^a]b", "a☺b", False),
    ("[a-\u03b6]*", "\u03b1", True),
    ("*[a-\u03b6]", "A", False),
    ("a?b", "a/b", False),
    ("a*b", "a/b", False),
    ("[\\]a]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-]", "x", True),
    ("[x\\-]", "-", True),
    ("[x\\-]", "z", False),
    ("[\\-x]", "x", True),
    ("[\\-x]", "-", True),
    ("[\\-x]", "a", False),
    ("*x", "xxx", True),
]


@pytest.mark.parametrize(("pattern", "path", "ignored"), MATCHES)
def test_pattern_matches_a_path_or_a_directory_above_it(pattern: str, path: str, ignored: bool) -> None:
    assert IgnoreRules([pattern_of(pattern)]).is_ignored(path) is ignored


@pytest.mark.parametrize("pattern", ["[", "[-]", "[-x]", "[]a]", "[^", "[^bc", "[a-b-c]", "[x-]", "\\", "a["])
def test_pattern_that_go_refuses_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError, match="Docker refuses the build"):
        pattern_of(pattern)


@pytest.mark.parametrize("pattern", ["!", " ! ", "!/", "[z-a]", "[Local-Only]", "\\1", "\\é", "[[:nothing:]]"])
def test_pattern_that_docker_cannot_try_is_refused_with_its_place(pattern: str) -> None:
    with pytest.raises(PatternError, match=r"^Dockerfile\.dockerignore:3: "):
        parse(f"a\n\n{pattern}\nb".encode(), "Dockerfile.dockerignore")


FILES = [
    # Documentation of Docker, "Build context": the examples of .dockerignore files.
    ("# comment\n*/temp*", "somedir/temporary.txt", True),
    ("*/temp*", "somedir/temp", True),
    ("*/temp*", "temp", False),
    ("*/*/temp*", "somedir/subdir/temporary.txt", True),
    ("*/*/temp*", "somedir/temp", False),
    ("temp?", "tempa", True),
    ("temp?", "temp", False),
    ("/foo/bar", "foo/bar", True),
    ("foo/bar/", "foo/bar", True),
    ("**/*.go", "a/b/c.go", True),
    ("**/*.go", "c.go", True),
    ("*.md\n!README.md", "README.md", False),
    ("*.md\n!README.md", "b.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
    ("*.md\n!README*.md\nREADME-secret.md", "README-a.md", False),
    ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
    # What is above or below an exception.
    ("docs\n!docs/README.md", "docs/README.md", False),
    ("docs\n!docs/README.md", "docs/a.md", True),
    ("docs/*\n!docs/README.md", "docs/README.md", False),
    ("*\n!src", "src/main.c", False),
    ("*\n!src\nsrc/*.o", "src/a.o", True),
    ("**\n!util/docker/web", "util/docker/web/foo", False),
    ("**\n!util/docker/web\nutil/docker/web/foo", "util/docker/web/foo", True),
    ("**\n!dist/*.whl", "dist/a+b.whl", False),
    ("!a\na", "a", True),
    # Lines.
    ("\ufeff.git", ".git/config", True),
    ("a\r\nb\r\n", "b", True),
    ("  a\t", "a", True),
    (" #a", "#a", True),
    ("\\#a", "#a", True),
    ("a # b", "a", False),
    (".", "a", False),
    ("./a", "a", True),
    ("a/../b", "b", True),
    ("../a", "a", False),
    ("/", "a", False),
    ("! a\n", "a", False),
    ("*\n!  a", "a", False),
    # Classes, escapes and other parts of Go's regular expressions.
    ("[[:digit:]]*", "7a", True),
    ("[[:digit:]]*", ":a", False),
    *(("[[:^digit:]]", path, path != "1") for path in "1a/é[]^-\\"),
    *(("[^[:^digit:]]", path, path == "1") for path in "1a/é"),
    *(("[[:^punct:]x]", path, path not in "[^~") for path in "[^~ax1 "),
    *(("[\\D]", path, path != "1") for path in "1a/"),
    ("[^a]b", "ab", False),
    ("x[^a]b", "x/b", True),
    ("[!a]b", "ab", True),
    ("\\d", "7", True),
    ("\\s", "a", False),
    ("a^b", "a^b", True),
    ("a^b?", "a^bc", False),
    ("a**b", "a/x/b", True),
    ("a**b", "axb", False),
    ("a**b", "ab", True),
    ("**.log", "a/b.log", True),
    ("a/**", "a", False),
    # What patternmatcher means to escape, and does not.
    *(("a*|b", path, ignored) for path, ignored in (("ax/y", True), ("x/ab", True), ("x", False), ("b/c", True))),
    ("a|b", "a|b", True),
    ("a|b", "a", False),
    ("**/a|b*", "x/y/b", True),
    ("**/a\\|b*", "x/a|bc", True),
    ("**/a\\|b*", "bc", False),
    ("*.{js,ts}", "x.{js,ts}", True),
    ("*.{js,ts}", "x.js", False),
    ("*a{2}", "baa", True),
    ("*a{2}", "a{2}", False),
    ("a{2}", "a{2}", True),
]


@pytest.mark.parametrize(("content", "path", "ignored"), FILES)
def test_file_of_patterns_is_followed(content: str, path: str, ignored: bool) -> None:
    assert ignores(content, path) is ignored


def test_lines_are_read_as_docker_reads_them() -> None:
    content = "test1\n/test2\n/a/file/here\n\nlastfile\n# this is a comment\n! /inverted/abs/path\n!\n! "
    assert [(line, text) for line, _, text in read_lines(content.encode())] == [
        (1, "test1"),
        (2, "test2"),
        (3, "a/file/here"),
        (5, "lastfile"),
        (7, "!inverted/abs/path"),
        (8, "!"),
        (9, "!"),
    ]


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("", "."),
        ("./a//b/", "a/b"),
        ("//a", "/a"),
        ("a/../..", ".."),
        ("/../a", "/a"),
        ("../../a", "../../a"),
        ("a/..", "."),
    ],
)
def test_path_is_cleaned_as_go_cleans_it(path: str, cleaned: str) -> None:
    assert clean(path) == cleaned


@pytest.mark.parametrize(
    ("pattern", "directory", "may"),
    [
        ("src/*.c", "src", True),
        ("src/*.c", "lib", False),
        ("src", "src", False),
        ("src", "src/a", False),
        ("*/a", "lib", True),
        ("*/a", "lib/b", False),
        ("a/b/c", "a/b", True),
        ("a/b/c", "a/x", False),
        ("**/a", "lib/b", True),
        ("a**", "lib", True),
        ("[a]/b", "lib", True),
        ("a/*|b", "lib", True),
    ],
)
def test_pattern_knows_where_it_cannot_match(pattern: str, directory: str, may: bool) -> None:
    assert pattern_of(pattern).may_match_below(directory) is may
