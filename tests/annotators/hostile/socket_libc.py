# ruff: noqa
# It asks the C library for a socket.
# says: denied: 1

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
for family in (2, 10, 1, 16, 17, 40):  # IPv4, IPv6, Unix, netlink, packet, vsock
    if libc.socket(family, 1 if family < 16 else 3, 0) >= 0:
        raise SystemExit(f"ESCAPED: {family}")
raise SystemExit(f"denied: {ctypes.get_errno()}")
