# ruff: noqa
# It stops, so that it uses no time of the processor and does not end.
# says: killed after

import os, signal

os.kill(os.getpid(), signal.SIGSTOP)
