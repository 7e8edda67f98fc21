# ruff: noqa
# It asks to be told which of the machine's programs are used.
# says: denied

import ctypes, fcntl, os

libc = ctypes.CDLL(None, use_errno=True)
if libc.inotify_init() >= 0 or libc.inotify_init1(0) >= 0:
    raise SystemExit("ESCAPED: inotify")
try:
    fcntl.fcntl(os.open("/usr", os.O_RDONLY), fcntl.F_NOTIFY, 1)
    raise SystemExit("ESCAPED: dnotify")
except OSError:
    raise SystemExit("denied")
