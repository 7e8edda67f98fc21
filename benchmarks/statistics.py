"""Our estimators beside their peers and beside the floor, in one run.

    python benchmarks/statistics.py --install --rounds 3 --out benchmarks/results/statistics.md

Each cell runs in a process of its own, one after another, round by round, so that what the machine does besides hits
all alike. `--install` makes an environment with the peers (choix, evalica, crowd-kit, arena-rank, krippendorff,
datasketch, rensa) where there is none; the floor (estimators/floor.py) runs there too, for it needs numba. A figure is
the least CPU time of the rounds, of user and system and children; the ratios are what counts.
"""

from __future__ import annotations

import sys

if __name__ == "statistics":
    # A script beside this one asked for the standard library's module of the same name: it stands where this one would.
    import importlib.util
    import sysconfig

    _spec = importlib.util.spec_from_file_location(__name__, f"{sysconfig.get_path('stdlib')}/statistics.py")
    assert _spec is not None and _spec.loader is not None
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
else:
    sys.path.insert(0, __file__.removesuffix("statistics.py") + "estimators")
    from table import main

    main()
