# ruff: noqa
# It takes one of a pair of sockets, which may be had, to send to another address.
# says: PermissionError|Operation not permitted

import socket

one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
one.sendto(b"hello", "/run/systemd/journal/socket")
raise SystemExit("ESCAPED")
