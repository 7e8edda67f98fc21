# ruff: noqa
# It reads who has an account here.
# says: FileNotFoundError|PermissionError

open("/etc/passwd").read()
raise SystemExit("ESCAPED")
