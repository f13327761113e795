"""Record the lowest free space on Docker's volume since the start, independently of the guard's own samples.

It also records when this machine stood still, because the one that emulates it did: lines of the form BEGAN ENDED.
"""

import os
import time

low = 2**62
while True:
    counts = os.statvfs("/srv/docker-volume")
    free = counts.f_bavail * counts.f_frsize
    if free < low:
        low = free
        with open("/run/low.new", "w") as file:
            file.write(str(low))
        os.rename("/run/low.new", "/run/low")
    began = time.time()
    time.sleep(0.02)
    ended = time.time()
    if ended - began > 0.2:
        with open("/run/still", "a") as file:
            file.write(f"{began} {ended}\n")
