"""Hosts as people have them: the verdict on each, with nothing set and with what README says to set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from .real_hosts import PAGE, RealHost, described, page, real_hosts, table, verdict

README = Path(__file__).parents[3] / "README.md"
HOSTS = real_hosts()

# The rows of README's table of disks, by the beginning of their first cell → the kind of hosts that they speak of.
ROWS = {
    "LVM, and at least 65 %": "room for the default",
    "LVM, and less is free": "less room than the default",
    "LVM, and nothing is free but the reserve": "full group",
    "A blank second disk": "blank disk",
    "More than one volume group": "two groups",
    "Root has taken the whole disk": "root has the disk",
    "An ephemeral disk": "ephemeral disk",
    "The disk that you name": "disk in use",
    "A volume group that misses": "incomplete group",
}

# These are refused with the settings too.
NO_WAY = ("disk in use",)


def rows() -> dict[str, list[str]]:
    """README's rows, by the kind of hosts: the cells."""
    section = README.read_text().partition("| Your disks |")[2].partition("\n\n")[0]
    cells = [line.strip("|").split("|") for line in section.splitlines()[2:]]
    return {
        kind: [cell.strip() for cell in row]
        for row in cells
        for start, kind in ROWS.items()
        if row[0].strip().startswith(start)
    }


def test_every_release_and_every_layout_is_among_them() -> None:
    releases = Counter((host.state.os_id, host.state.os_version) for host in HOSTS)
    assert len(HOSTS) >= 30
    assert set(releases) == {
        ("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04"), ("ubuntu", "26.04"),
    }  # fmt: skip
    for word in (
        "ec2",
        "gce",
        "azure",
        "hetzner",
        "digitalocean",
        "linode",
        "installer",
        "md-",
        "luks",
        "multipath",
        "zfs",
        "btrfs",
        "thin",
        "groups",
    ):
        assert any(word in host.name for host in HOSTS), word
    assert all(host.source for host in HOSTS)
    assert {host.kind for host in HOSTS} == set(ROWS.values())


def test_page_has_the_table() -> None:
    print(table())
    assert PAGE.read_text() == page(), "run: .venv/bin/python -m tests.unit.tasks.real_hosts"


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_readme_says_what_becomes_of_a_host(host: RealHost) -> None:
    _, nothing_set, settings_to_set = rows()[host.kind]
    assert nothing_set.partition(":")[0] == verdict(host.examine())
    if host.wanted:
        with_settings = verdict(host.examine(**host.wanted))
        assert with_settings.startswith("refused" if host.kind in NO_WAY else "works"), described(
            host.examine(**host.wanted)
        )
        if host.kind not in NO_WAY:
            assert all(f"`{name} = " in settings_to_set for name in host.wanted)


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
def test_no_message_on_a_host_destroys_anything(host: RealHost) -> None:
    for result in (host.examine(), host.examine(**host.wanted)):
        text = "\n".join(map(str, result.findings))
        assert not [
            word
            for word in ("wipefs --all", "mkfs", "lvremove", "vgremove", "pvremove", "blkdiscard", "dd ")
            if word in text
        ]
