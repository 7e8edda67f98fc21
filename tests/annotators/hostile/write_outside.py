# ruff: noqa
# It writes wherever it can but in its folder.
# says: denied

import os

for folder in ("/", "/tmp", "/var/tmp", "/dev/shm", "/usr", "/usr/local/lib", "/task", "/run", "/root", "/etc", ".."):
    try:
        with open(f"{folder}/ESCAPED-from-the-sandbox", "w") as file:
            file.write("x")
        raise SystemExit(f"ESCAPED: {folder}")
    except OSError:
        pass
raise SystemExit("denied")
