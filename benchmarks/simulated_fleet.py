"""One run of scripts/deploy's own code on a fleet of simulated hosts, for `scripts/benchmark fleet`.

Everything is the real code but the connection: pyinfra's @fake connector answers with the text of
`benchmarks.simulated_host` instead of SSH. So what is measured is the control machine without its SSH.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from pyinfra.connectors.fake import FakeConnector
from pyinfra.connectors.util import CommandOutput, OutputLine

from fleet.__main__ import main

ANSWERS = "BULKHEAD_BENCHMARK_ANSWERS"  # path of a JSON file: the lines of each answer, in the order of the questions


def answer_from(answers: list[list[str]]) -> None:
    """Have simulated hosts answer the collecting command; every other command succeeds without output."""

    def lookup(_: FakeConnector, command: str) -> tuple[bool, CommandOutput]:
        mark = re.search("echo '(##FACT## [0-9a-f]+)'", command)
        lines = [line for answer in answers for line in (mark[1], *answer, "")] + [mark[1]] if mark else []
        return True, CommandOutput([OutputLine("stdout", line) for line in lines])

    setattr(FakeConnector, "_lookup_response", lookup)  # noqa: B010 - mypy takes an assignment for a mistake


def _main() -> Any:
    setattr(FakeConnector, "_sleep", lambda _: None)  # noqa: B010 - likewise
    answer_from(json.loads(Path(os.environ[ANSWERS]).read_text()))
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(_main())
