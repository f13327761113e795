"""Where the program begins."""

from __future__ import annotations

import sys

from bulkhead import streams


def main(words: list[str]) -> int:
    """Run a command and return its exit code, whatever has become of standard output.

    A command whose output cannot be written still goes on to its end. Then its exit code is its own, or 141 for a pipe that
    nobody reads, or 1. A check has failed if nobody can read its result: 3 (UNKNOWN).
    """
    is_check = words[:1] == ["check"]
    output = streams.replace()
    try:
        code = run(words)
    except SystemExit as end:  # argparse's
        code = int(end.code or 0)
    except KeyboardInterrupt:
        code = 130  # as shells report it
    return streams.exit_code(output, code, unprinted=3 if is_check else None)


def run(words: list[str]) -> int:
    """Run a command and return its exit code."""
    # What cron runs all day: argparse alone would take a sixth of what a check may cost.
    if words[:1] == ["check"] and not words[2:] and all(word.isdecimal() and 0 < int(word) < 100 for word in words[1:]):
        import gc

        gc.disable()  # a check ends before there is anything to collect
        from bulkhead.watch import check

        return check.start(int(words[1]) if words[1:] else None)
    from bulkhead import command_line

    return command_line.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
