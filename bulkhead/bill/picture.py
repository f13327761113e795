"""Draw the comparison of two bills as an SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from bulkhead.bill.page import ROWS, change_of, title

if TYPE_CHECKING:
    from bulkhead.bill.bill import Bill

_WIDTH, _ROW, _TOP = 720, 58, 64  # pixels
_LEFT, _LONGEST = 170, 360  # where bars begin, and their length at most
_COLOURS = ("#8a8f98", "#2f81f7")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.name{font-weight:600}.title{font-size:16px;font-weight:600}"
    "rect.back{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#e6edf3}rect.back{fill:#0d1117}}"
)


def draw(first: Bill, second: Bill) -> str:
    """Return a picture of two bills, a pair of bars for each figure that both have."""
    bills = (first, second)
    rows = [row for row in ROWS if None not in (getattr(first, row.key), getattr(second, row.key))]
    height = _TOP + _ROW * len(rows) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img">',
        f"<title>{escape(title(first))} and {escape(title(second))}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="back" width="{_WIDTH}" height="{height}"/>',
    ]
    for place, bill in enumerate(bills):
        x = 20 + place * 340
        parts.append(f'<rect x="{x}" y="20" width="14" height="14" fill="{_COLOURS[place]}"/>')
        parts.append(f'<text class="title" x="{x + 22}" y="32">{escape(title(bill))}</text>')
    for number, row in enumerate(rows):
        y = _TOP + number * _ROW
        values = [getattr(bill, row.key) for bill in bills]
        parts.append(f'<text class="name" x="20" y="{y + 27}">{escape(row.name)}</text>')
        for place, value in enumerate(values):
            length = round(_LONGEST * value / (max(values) or 1), 1)
            change = f" ({change_of(*values)})" if place == 1 else ""
            y_bar = y + place * 22
            parts.append(f'<rect x="{_LEFT}" y="{y_bar + 4}" width="{length}" height="18" fill="{_COLOURS[place]}"/>')
            parts.append(f'<text x="{_LEFT + length + 8}" y="{y_bar + 18}">{escape(row.shown(value) + change)}</text>')
    return "\n".join([*parts, "</svg>", ""])
