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
    return _text(suites)


def document_of_failure(why: str) -> str:
    """Return the document of a gate that could not begin: one test, with an error."""
    attributes = {"name": "bulkhead gate", "tests": "1", "failures": "0", "errors": "1"}
    suites = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(suites, "testsuite", {**attributes, "skipped": "0", "time": "0"})
    case = ElementTree.SubElement(suite, "testcase", {"classname": "bulkhead.gate", "name": "bill", "time": "0"})
    message = _printable(why)
    ElementTree.SubElement(case, "error", {"type": UNKNOWN, "message": message}).text = message
    return _text(suites)


def _text(suites: ElementTree.Element) -> str:
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _printable(text: str) -> str:
    """Return a text without what XML cannot hold."""
    return "".join(c for c in text if c.isprintable())
