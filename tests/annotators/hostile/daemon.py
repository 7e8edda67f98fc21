# ruff: noqa
# It leaves a process behind that has gone through two forks and a session of its own.
# says: ended by itself

import os, time

if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(0)
time.sleep(0.2)
os._exit(0)
