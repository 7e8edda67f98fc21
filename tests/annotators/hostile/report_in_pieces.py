# ruff: noqa
# It reports what is no report: of other types, without end, too deep to be read.
# says: ended by itself

import os

deep = b"[" * 5000 + b"]" * 5000
for line in (
    b'{"program": [1]}',
    b'{"check": 0, "raised": {"a": 1}}',
    b'{"check": 0, "raised": ' + deep + b"}",
    b"[]",
    b"{",
):
    os.write(3, line + b"\n")
os._exit(0)
