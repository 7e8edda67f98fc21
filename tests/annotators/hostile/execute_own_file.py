# ruff: noqa
# It writes a program of its own and starts it.
# says: PermissionError|Permission denied

import os

with open("program", "w") as file:
    file.write("#!/bin/sh\necho ESCAPED\n")
os.chmod("program", 0o755)
os.execv("./program", ["program"])
