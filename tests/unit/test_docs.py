"""The pages lead where they say: every link, every command of scripts/, every page in the index."""

from __future__ import annotations

import re
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import cache
from io import StringIO
from pathlib import Path

import pytest

from bulkhead import command_line
from settings.check import defaults

TOP = Path(__file__).parents[2]
PAGES = sorted(
    [*TOP.glob("*.md"), *TOP.glob("docs/**/*.md"), *TOP.glob("files/**/*.md"), *TOP.glob("examples/**/*.md")]
)
# Of the project, as a page names them in its text: tasks/volume.py, settings/.
_OURS = re.compile(r"`((?:bulkhead|settings|tasks|pyinfra_lvm|inventory|tests|lab|templates|benchmarks)/[a-z0-9_./]*)`")


def links(page: Path) -> list[str]:
    """Return the targets of the links and pictures of a page that stay within the project."""
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """Return the anchors that the hosting site gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    bare = (re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading)) for heading in headings)
    return {heading.strip().lower().replace(" ", "-") for heading in bare}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: there is no such file"
        assert file.is_relative_to(TOP), f"{target}: it leaves the project"
        if anchor:
            assert anchor in anchors(file), f"{target}: that page has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_command_that_a_page_names_is_there(page: Path) -> None:
    for name in set(re.findall(r"\bscripts/([a-z]+)\b", page.read_text())):
        assert (TOP / "scripts" / name).exists(), f"scripts/{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_file_of_the_project_that_a_page_names_is_there(page: Path) -> None:
    for name in set(_OURS.findall(page.read_text())):
        assert (TOP / name).exists(), name


@cache
def help_of(*words: str) -> str:
    """Return the help of a command of the program; empty for none."""
    with redirect_stdout(StringIO()) as printed, redirect_stderr(StringIO()), suppress(SystemExit):
        command_line.main([*words, "--help"])
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_command_and_option_of_the_program_that_a_page_names_is_there(page: Path) -> None:
    typed = re.findall(r"(?:^ +|`)(?:sudo )?bulkhead ((?:snapshot )?[a-z]+)\b([^`\n]*)", page.read_text(), re.MULTILINE)
    for command, arguments in typed:
        help_text = help_of(*command.split())
        assert help_text, f"there is no command {command}"
        own = re.split(r" -- | #", arguments)[0]
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", own):
            assert re.search(rf"{option}\b", help_text), f"{command} has no option {option}"


def test_every_page_that_the_code_names_is_there() -> None:
    files = [
        path
        for name in ("bulkhead", "settings", "tasks", "pyinfra_lvm", "inventory")
        for path in TOP.glob(f"{name}/**/*.*")
        if path.suffix in (".py", ".sh")
    ]
    files += [path for name in ("templates", "files", "scripts") for path in TOP.glob(f"{name}/*") if path.is_file()]
    named = {name for path in files for name in re.findall(r"\bdocs/[a-z0-9/-]+\.md\b", path.read_text())}
    assert named
    assert not [name for name in sorted(named) if not (TOP / name).exists()]


def test_every_setting_is_on_a_page() -> None:
    pages = "".join(page.read_text() for page in PAGES if page.name != "CHANGELOG.md")
    assert not [name for name in defaults() if f"`{name}" not in pages and f'"{name}"' not in pages]


def test_index_has_every_page() -> None:
    index = TOP / "docs" / "README.md"
    listed = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    missing = {page for page in TOP.glob("docs/**/*.md") if page != index} - listed
    assert not missing, f"docs/README.md lacks {sorted(page.name for page in missing)}"


def test_architecture_has_every_capability_and_every_module_of_the_program() -> None:
    page = (TOP / "docs/architecture.md").read_text()
    diagram = page.partition("```mermaid")[2].partition("```")[0]
    assert not [path.name for path in TOP.glob("tasks/[!_]*.py") if f"`{path.name}`" not in page]
    modules = {path.stem for path in TOP.glob("bulkhead/[!_.]*") if path.is_dir() or path.suffix == ".py"}
    assert not [name for name in sorted(modules) if not re.search(rf"\b{name}\b", diagram)]


def test_page_shows_the_user_data_that_the_lab_tries() -> None:
    shown = re.search(
        r"^    #cloud-config\n(?:(?:    .*)?\n)+?(?=\S)", (TOP / "docs/new-machines.md").read_text(), re.MULTILINE
    )
    assert shown
    text = "".join(line[4:] for line in shown[0].rstrip("\n").splitlines(keepends=True))
    assert f"{text}\n" == (TOP / "examples/cloud-init/docker-partition.yaml").read_text()


def test_job_for_gitlab_has_a_name_that_gitlab_allows() -> None:
    text = (TOP / "docs/gate.md").read_text().partition("GitLab CI,")[2]
    jobs = set(re.findall(r"(?m)^([\w-]+):", text.partition("```yaml\n")[2].partition("```")[0]))
    keywords = {"image", "services", "stages", "before_script", "after_script", "variables", "cache", "include"}
    assert jobs, "there is no job"
    assert not jobs & keywords


def test_readme_names_settings_that_exist_with_their_defaults() -> None:
    defaults = (TOP / "inventory" / "group_data" / "all.py").read_text()
    section = (TOP / "README.md").read_text().partition("## Ten settings that matter")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)`", section, re.MULTILINE)
    assert len(rows) == 10
    for name, default in rows:
        assert f"\n{name} = {default}\n" in defaults, name
