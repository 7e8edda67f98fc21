# ruff: noqa
# It asks to be root.
# says: denied

import os

for become in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0]), lambda: os.seteuid(0)):
    try:
        become()
        raise SystemExit("ESCAPED")
    except OSError:
        pass
raise SystemExit("denied")
