# ruff: noqa
# It ignores every signal that can be ignored, and waits.
# says: killed after

import signal, time

for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    time.sleep(1)
