# ruff: noqa
# It makes namespaces of its own, in which it would be root.
# says: denied: 1

import ctypes, os

libc = ctypes.CDLL(None, use_errno=True)
for flags in (0x10000000, 0x10020000, 0x40000000):
    if libc.unshare(flags) == 0:
        raise SystemExit("ESCAPED: unshare")
    if libc.mount(b"none", b"/", None, flags, None) == 0:
        raise SystemExit("ESCAPED: mount")
raise SystemExit(f"denied: {ctypes.get_errno()}")
