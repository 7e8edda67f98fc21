"""When may we stop: how many more labels until an interval is as narrow as it should be, and what they cost.

One assumption holds throughout: the units to come are like those labelled so far, so that the width of an interval
shrinks with the square root of their number. It holds for means, shares and the agreement coefficients alike once
there are a few dozen units; with fewer the forecast itself is rough.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, isfinite


def units_needed(half_width: float, n: int, target: float) -> int:
    """How many more units until an interval is narrow enough: ceil(n ((h/t)^2 - 1)), from h ~ 1/sqrt(n).

    Args:
        half_width: half of the present interval's width, h >= 0.
        n: how many units it rests on, >= 1.
        target: half of the width that is wanted, t > 0.

    Returns:
        0 where the interval is narrow enough already.

    Raises:
        ValueError: an argument outside its range.
    """
    if not (half_width >= 0 and isfinite(half_width)):
        raise ValueError(f"the half width must be a number of at least 0; it is {half_width}")
    if not (n >= 1 and isfinite(n)):
        raise ValueError(f"an interval rests on at least one unit; n is {n}")
    if not (target > 0 and isfinite(target)):
        raise ValueError(f"the target must be a number above 0; it is {target}")
    if half_width / target > 1e100:
        raise ValueError(f"no number of units makes an interval of {half_width:g} as narrow as {target:g}")
    more = n * ((half_width / target) ** 2 - 1)
    # 0.3/0.1 squared is a little more than 9: no unit is asked for because of that.
    return max(0, ceil(more - 1e-9 * n))


@dataclass(frozen=True)
class Remaining:
    """What is left to do.

    Attributes:
        units: units still to be labelled.
        labels: labels, each unit by as many people as before.
        hours: until then, at the pace of all together; None where no pace is known.
        work_hours: active hours of work in them; None where the time of a label is not known.
        label_cost: of one label, in the currency of the pay; None where pay or time is not known.
        cost: of all of them.
    """

    units: int
    labels: int
    hours: float | None
    work_hours: float | None
    label_cost: float | None
    cost: float | None


def remaining(
    units: int,
    *,
    labels_a_unit: float = 1.0,
    labels_an_hour: float | None = None,
    seconds_a_label: float | None = None,
    pay_an_hour: float | None = None,
) -> Remaining:
    """Hours and money that so many more units take.

    Args:
        units: from `units_needed`.
        labels_a_unit: how many people label one unit, > 0.
        labels_an_hour: what all people together make in an hour of the clock, >= 0; with 0 there is no end in sight.
        seconds_a_label: active seconds that one label takes, >= 0.
        pay_an_hour: for one person's active hour, >= 0.

    Raises:
        ValueError: an argument outside its range.
    """
    if not (units >= 0 and isfinite(units)):
        raise ValueError(f"units left cannot be fewer than none; they are {units}")
    if not (labels_a_unit > 0 and isfinite(labels_a_unit)):
        raise ValueError(f"labels a unit must be a number above 0; it is {labels_a_unit}")
    for name, value in (("pace", labels_an_hour), ("time of a label", seconds_a_label), ("pay", pay_an_hour)):
        if value is not None and not (value >= 0 and isfinite(value)):
            raise ValueError(f"the {name} must be a number of at least 0; it is {value}")
    labels = ceil(units * labels_a_unit - 1e-9 * units)
    hours = None
    if labels == 0:
        hours = 0.0
    elif labels_an_hour:
        hours = labels / labels_an_hour
    work = None if seconds_a_label is None else labels * seconds_a_label / 3600
    each = None if seconds_a_label is None or pay_an_hour is None else seconds_a_label / 3600 * pay_an_hour
    return Remaining(units, labels, hours, work, each, None if each is None else each * labels)
