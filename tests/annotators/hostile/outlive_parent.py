# ruff: noqa
# It takes back that it dies with its parent, ignores signals, and leaves a stopped and a sleeping process.
# says: ended by itself

import ctypes, os, signal, time

ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
if os.fork() == 0:
    os.setsid()
    time.sleep(3600)
if os.fork() == 0:
    try:
        os.kill(os.getpid(), signal.SIGSTOP)
    except OSError:
        time.sleep(3600)
os._exit(0)
