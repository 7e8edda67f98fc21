# ruff: noqa
# It writes into the folder from which it was started.
# says: denied

import glob, os, sys

place = os.path.dirname(os.path.abspath(sys.modules["__main__"].__file__))
for path in glob.glob(place + "/*"):
    for change in (lambda: os.chmod(path, 0o777), lambda: open(path, "w").close(), lambda: os.unlink(path)):
        try:
            change()
            raise SystemExit(f"ESCAPED: {path}")
        except OSError:
            pass
raise SystemExit("denied")
