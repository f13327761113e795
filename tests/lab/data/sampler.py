"""Record the lowest free space on Docker's volume since the start, independently of the guard's own samples.

Records too for how many seconds at most this machine has stood still, because the one that emulates it did.
"""

import os
import time


def record(name, value):
    with open(f"{name}.new", "w") as file:
        file.write(str(value))
    os.rename(f"{name}.new", name)


low, longest, last = 2**62, 0.0, time.monotonic()
while True:
    now = time.monotonic()
    if now - last > longest:
        longest = now - last
        record("/run/still", longest)
    last = now
    counts = os.statvfs("/srv/docker-volume")
    free = counts.f_bavail * counts.f_frsize
    if free < low:
        low = free
        record("/run/low", low)
    time.sleep(0.02)
