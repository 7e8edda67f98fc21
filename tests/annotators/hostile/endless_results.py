# ruff: noqa
# It writes to the channel of results without end.
# says: wrote more than

import os

while True:
    os.write(3, b'{"check": 0, "value": ["i", "0x2a"]' * 1000)
