# ruff: noqa
# It raises its own limits, and those of whoever watches it.
# says: denied

import os, resource

for what in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
    soft, hard = resource.getrlimit(what)
    try:
        resource.setrlimit(what, (hard + 1, hard + 1))
        raise SystemExit(f"ESCAPED: {what}")
    except (OSError, ValueError):
        pass
try:
    resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))
    raise SystemExit("ESCAPED: prlimit")
except OSError:
    raise SystemExit("denied")
