# ruff: noqa
# It leaves links to folders outside, for whoever tidies up after it to follow.
# says: answer

import os

for number, target in enumerate(("/", "/tmp", "/root", "/etc/passwd", "/proc/self/root", "..", ".", "loop")):
    os.symlink(target, f"link-{number}")
os.symlink("loop", "loop")
os.rename("link-0", "box")
