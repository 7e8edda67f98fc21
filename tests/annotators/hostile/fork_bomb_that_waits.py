# ruff: noqa
# It forks as often as it can and has all of them sleep.
# says: started more than|killed after

import os, time

while True:
    try:
        if os.fork() == 0:
            time.sleep(3600)
    except OSError:
        time.sleep(0.1)
