"""Where the program begins."""

from __future__ import annotations

import sys


def main(words: list[str]) -> int:
    """Run a command; the exit code."""
    # What cron calls, all day: argparse alone would take a sixth of what a check may cost.
    if words[:1] == ["check"] and not words[2:] and all(word.isdecimal() and 0 < int(word) < 100 for word in words[1:]):
        from bulkhead.watch import check

        return check.start(int(words[1]) if words[1:] else None)
    from bulkhead import command_line

    return command_line.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
