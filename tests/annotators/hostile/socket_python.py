# ruff: noqa
# It asks Python for a socket.
# says: PermissionError|Operation not permitted

import socket

socket.create_connection(("127.0.0.1", 8000), timeout=1)
raise SystemExit("ESCAPED")
