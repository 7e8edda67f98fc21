# ruff: noqa
# It raises an error whose text no table can hold.
# says: ValueError: \ufffd$


def answer():
    raise ValueError("\ud800")
