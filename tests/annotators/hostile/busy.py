# ruff: noqa
# It computes without end, and handles the signal that tells it to stop.
# says: killed after|of the processor

import signal

signal.signal(signal.SIGXCPU, lambda *_: None)
while True:
    pass
