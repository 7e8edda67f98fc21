"""Programs that nobody trusts, run where they can do no harm: see docs/sandbox.md.

`run_program` runs one, `refusal` says why none can be run on this machine. This package imports nothing of prefdata:
`box` is started by a bare interpreter that has no other package.
"""

from .limits import Ended, Limits
from .start import refusal, run_program

__all__ = ["Ended", "Limits", "refusal", "run_program"]
