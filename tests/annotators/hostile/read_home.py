# ruff: noqa
# It lists the home folders and reads what lies there.
# says: denied

import glob, os, pwd

found = []
for folder in ("/root", "/home", os.path.expanduser("~root"), "/work", "/Users", "/mnt", "/srv", "/opt", "/var"):
    try:
        found += [f"{folder}/{name}" for name in os.listdir(folder)]
    except OSError:
        pass
found = [path for path in found if os.path.isfile(path) or (os.path.isdir(path) and glob.glob(path + "/*"))]
readable = []
for path in found:
    for name in [path, *glob.glob(path + "/*")]:
        try:
            readable.append(open(name).read(10))
        except (OSError, UnicodeDecodeError):
            pass
raise SystemExit("ESCAPED: " + repr(found)[:100] if readable else "denied")
