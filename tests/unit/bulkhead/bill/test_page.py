"""Bills as pages and as a picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bulkhead.bill import page, picture
from bulkhead.terminal import NARROWEST

from .bills import bill


@pytest.mark.parametrize("width", [10, 40, 60, 80, 132])
def test_pages_fit_the_terminal(width: int) -> None:
    text = page.render(bill(), colour=False, width=width)
    assert max(map(len, text.splitlines())) <= max(width, NARROWEST)


def test_what_is_not_known_is_unknown_and_why() -> None:
    unknown = dict.fromkeys(("peak", "wasted"), "the engine has its data on another machine")
    shown = page.render(bill(peak=None, wasted=None, unknown=unknown), colour=False, width=100)
    assert "  peak on disk       unknown\n" in shown.replace("  during [3/6] RUN pip install torch", "")
    assert "  wasted             unknown\n" in shown
    assert "  peak on disk, wasted: the engine has its data on another machine" in shown


def test_neighbours_and_the_guards_count_are_shown() -> None:
    shown = page.render(bill(is_disturbed=True, steps_written=30 * 2**30), colour=False, width=100)
    assert "Other builds ran at the same time. The peak has what they wrote, too." in shown
    assert "  written by RUN    30.0 GiB  also what was deleted again\n" in shown


def test_names_do_nothing_to_a_terminal_or_a_picture() -> None:
    name = "a<b>&\033[2J"
    assert "\033" not in page.render(bill(name=name), colour=False, width=80)
    ElementTree.fromstring(picture.draw(bill(name="a<b>&"), bill(2)))


def test_colours_only_if_wanted() -> None:
    first, second = bill(1), bill(2, peak=1)
    assert "\033[" not in page.render_comparison(first, second, colour=False, width=80)
    assert "\033[32m-100 %\033[0m" in page.render_comparison(first, second, colour=True, width=80)
