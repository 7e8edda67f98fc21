# ruff: noqa
# It reports the right value with a secret that it made up, of characters that cannot be compared safely as text.
# says: ended by itself

import os

os.write(3, b'{"program": null}\n{"check": 0, "value": ["i", "0x2a"], "secret": "\\u00e9\\ud800"}\n')
os._exit(0)
