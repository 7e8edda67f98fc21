# ruff: noqa
# It reads the machine's passwords.
# says: FileNotFoundError|PermissionError

open("/etc/shadow").read()
raise SystemExit("ESCAPED")
