"""Which volumes stand out of a cohort, in words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from napari_resunet.cohort.manifest import CaseEntry, Status

_LEAST_CASES = 8  # of fewer the middle says too little
_FAR = 3.5  # robust z from which on a value is called unusual, as Iglewicz and Hoaglin (1993) propose
_NORMAL = 0.6745  # the median absolute deviation of a normal distribution, in standard deviations

_LUNGS = {"ml_right": "right lung", "ml_left": "left lung", "ml_total": "lungs"}


def unusual_cases(entries: Sequence[CaseEntry]) -> dict[str, tuple[str, ...]]:
    """Return for each case that is done and stands out why its volumes do, by its id."""
    told: defaultdict[str, list[str]] = defaultdict(list)
    for field, what in _LUNGS.items():
        volumes = {entry.id: getattr(entry, field) for entry in entries if entry.status is Status.DONE}
        for case, words in unusual_volumes(volumes, what=what).items():
            if field != "ml_total" or case not in told:  # which a lung that stands out explains
                told[case].append(words)
    return {case: tuple(words) for case, words in told.items()}


def unusual_volumes(ml: Mapping[str, float | None], *, what: str = "lungs") -> dict[str, str]:
    """Return why a volume is unusual, for those that are.

    A volume is compared with the others by its robust z: how far it is from the median, in units of the median
    absolute deviation, scaled so that it is a z-score where the volumes are spread normally.

    Parameters
    ----------
    ml : mapping of str to float
        The volume of each case; None where there is none.
    what : str
        What it is the volume of.

    Returns
    -------
    dict
        A sentence for each unusual case. Empty where there are fewer than eight volumes, or where more than half of
        them are the same; but where nothing was found in a CT is always told.
    """
    known = {case: value for case, value in ml.items() if value is not None}
    told = {case: f"no {what} found" for case, value in known.items() if not value}
    if len(known) < _LEAST_CASES:
        return told
    middle = median(known.values())
    spread = median(abs(value - middle) for value in known.values())
    if not spread:
        return told
    for case, value in known.items():
        z = _NORMAL * (value - middle) / spread
        if abs(z) > _FAR and value:
            told[case] = (
                f"{what} unusually {'large' if z > 0 else 'small'}: {value:,.0f} ml, where half of the cases are "
                f"within {spread:,.0f} ml of {middle:,.0f} ml (robust z {z:+.1f})"
            )
    return told
