# ruff: noqa
# It prints without end.
# says: wrote more than

while True:
    print("x" * 10000)
