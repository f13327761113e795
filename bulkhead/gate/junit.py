"""Write verdicts as JUnit's XML, which CI systems show as tests."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING
from xml.etree import ElementTree  # it only writes here

from bulkhead.gate.verdict import EXCEEDED, OK, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bulkhead.bill.bill import Bill
    from bulkhead.gate.verdict import Verdict


def document(bill: Bill, verdicts: Sequence[Verdict]) -> str:
    """Return the document: a test for each limit, an error for what could not be measured."""
    failures = sum(each.level == EXCEEDED for each in verdicts)
    errors = sum(each.level == UNKNOWN for each in verdicts)
    attributes = {"tests": str(len(verdicts)), "failures": str(failures), "errors": str(errors)}
    suites = ElementTree.Element("testsuites", {"name": "bulkhead gate", **attributes})
    moment = datetime.fromtimestamp(bill.time, timezone.utc).replace(tzinfo=None).isoformat(timespec="seconds")
    suite = ElementTree.SubElement(
        suites,
        "testsuite",
        {
            "name": f"bulkhead gate {_printable(bill.name)}",
            **attributes,
            "skipped": "0",
            "time": f"{bill.seconds:.1f}",
            "timestamp": moment,
        },
    )
    for each in verdicts:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": f"bulkhead.gate.{_printable(bill.name)}", "name": each.name, "time": "0"}
        )
        if each.level != OK:
            measured, allowed = each.in_words
            message = f"{each.name}: measured {measured}, allowed {allowed}"
            found = ElementTree.SubElement(
                case, "failure" if each.level == EXCEEDED else "error", {"type": each.level, "message": message}
            )
            found.text = _printable(f"{message}. {each.note}" if each.note else message)
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _printable(text: str) -> str:
    """Return a text without what XML cannot hold."""
    return "".join(c for c in text if c.isprintable())
