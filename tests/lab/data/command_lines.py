"""Note every command line on the machine that has a word. Runs as a user without rights, as anybody's `ps` does.

usage: command_lines.py WORD FILE    WORD: backwards, for this command line not to have it
"""

import contextlib
import os
import sys
import time

word, path = sys.argv[1][::-1].encode(), sys.argv[2]
with open(path, "ab", buffering=0) as noted:
    noted.write(b"ready\n")
    while True:
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read()
                if word in line:
                    noted.write(line.replace(b"\0", b" ").replace(b"\n", b" ") + b"\n")
        time.sleep(0.005)
