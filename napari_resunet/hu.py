"""Whether the voxel values of a CT are Hounsfield units, and what is odd about them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_resunet.errors import InputError

# Air is -1000 HU and lung about -850. A CT of the chest in which not one voxel in a thousand is below this
# holds something else than HU.
_AIRLESS_HU = -300
_SHARE = 0.001
# Values below any air fill what lies outside of the field of view.
PADDING_HU = -1500
# Where most of the air and most of the tissue of a chest lie, in any kernel, with or without contrast.
_AIR_HU, _TISSUE_HU = (-1100, -700), (-150, 200)
_LEAST_TISSUE = 0.05
_BIN_HU = 20
_ENOUGH = 1000  # voxels to speak of a peak
_STRIDE, _MOST_SLICES = 4, 64


@dataclass(frozen=True)
class HuFinding:
    """Something that is odd about the values of a CT.

    Parameters
    ----------
    subject : str
        ``"HU"``, ``"padding"`` or ``"not numbers"``.
    level : str
        ``"note"``: they can be used; ``"ask"``: the user has to say what they are; ``"refuse"``: they cannot be used.
    text : str
        What was found and what to do, in plain words.
    hu_offset : float, optional
        What would have to be added to every value so that it looks like HU.
    """

    subject: str
    level: str
    text: str
    hu_offset: float | None = None

    @property
    def fact(self) -> str:
        """What was found, without what to do."""
        return self.text.partition(":")[0]


def judge_hu(array: npt.NDArray[Any]) -> tuple[HuFinding, ...]:
    """Return what is odd about the values of a CT, nothing if they look like HU of a chest.

    Parameters
    ----------
    array : (z, y, x) array
        The values. Each is looked at for padding, for what is not a number, and for the least and the largest; where
        most of the rest lies is judged by a sample.
    """
    counted, low, high = _counted(array)
    judged = _judge(_sample(array), low, high)
    return (*counted, *([] if judged is None else [judged]))


def where_air_and_tissue_lie(array: npt.NDArray[Any]) -> tuple[int | None, int | None]:
    """Return the most common HU of air and of tissue, None where there is too little of it to say."""
    sample = _sample(array)
    return _peak(sample[sample < _AIRLESS_HU]), _peak(sample[sample >= _AIRLESS_HU])


def _sample(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a part of the values that are neither padding nor non-finite."""
    part = np.asarray(array[:: max(1, len(array) // _MOST_SLICES), ::_STRIDE, ::_STRIDE])
    chosen: npt.NDArray[Any] = part[np.isfinite(part) & (part > PADDING_HU)]
    return chosen


def _counted(array: npt.NDArray[Any]) -> tuple[list[HuFinding], float, float]:
    """Return how many voxels are no numbers or padding, where there are some, and between what the others lie."""
    odd, padded, low, high = 0, 0, math.inf, -math.inf
    for read in array:
        plane = np.asarray(read)  # one at a time, where they are computed or lie in a file
        lowest, highest = plane.min(), plane.max()  # not a number if there is one in it
        # most slices have neither, and counting takes longer
        if not (np.isfinite(lowest) and np.isfinite(highest) and lowest > PADDING_HU):
            finite = plane[np.isfinite(plane)]
            values = finite[finite > PADDING_HU]
            odd += plane.size - finite.size
            padded += finite.size - values.size
            if not values.size:
                continue
            lowest, highest = values.min(), values.max()
        low, high = min(low, float(lowest)), max(high, float(highest))
    share = 100 * padded / math.prod(array.shape)
    said = (
        (odd, "not numbers", f"{odd:,} voxels are not finite (NaN or infinite): taken as air by the network"),
        (
            padded,
            "padding",
            f"{padded:,} voxels ({share:.1f} %) are {PADDING_HU} HU or less: padding outside the field of view, "
            "taken as air by the network",
        ),
    )
    return [HuFinding(subject, "note", text) for count, subject, text in said if count], low, high


def _judge(sample: npt.NDArray[Any], low: float, high: float) -> HuFinding | None:
    """Judge the values by a sample of those between `low` and `high`, which are neither padding nor non-finite."""
    if low > high:
        return _refused("no voxel holds a value that a CT can have: export the CT again in HU")
    if low == high:
        return _refused(
            f"every voxel that is not padding is {low:g}: there is nothing to segment; choose another series or file"
        )
    if not sample.size:
        return None
    if np.count_nonzero(sample < _AIRLESS_HU) < _SHARE * sample.size:
        return _airless(low, high)
    return _odd_peaks(sample)


def _refused(text: str) -> HuFinding:
    return HuFinding("HU", "refuse", text)


def _airless(low: float, high: float) -> HuFinding:
    few = "hardly any" if low < _AIRLESS_HU else "none"
    found = f"values run from {low:g} to {high:g} and {few} is as low as air (-1000 HU)"
    if high > 1200:
        text = (
            f"{found}: they look like HU + 1024; give a HU offset of -1024 (--hu-offset or hu_offset=), or 0 if they "
            "are right"
        )
        return HuFinding("HU", "ask", text, hu_offset=-1024)
    if low >= 0 and high <= 255:
        text = (
            f"{found}: they are not HU but grey values of a picture; export the CT again in HU, or give a HU "
            "offset of 0 (--hu-offset or hu_offset=) to use them as they are"
        )
    else:
        text = (
            f"{found}: they are not HU; export the CT again in HU, or give the HU offset that makes them so "
            "(--hu-offset or hu_offset=)"
        )
    return HuFinding("HU", "ask", text)


def _odd_peaks(sample: npt.NDArray[Any]) -> HuFinding | None:
    """Return a note if air or tissue lie elsewhere than they do in HU."""
    tissue = sample[sample >= _AIRLESS_HU]
    air_at, tissue_at = _peak(sample[sample < _AIRLESS_HU]), _peak(tissue)
    remedy = "are they HU? look at the CT before you trust a result"
    if sample.size >= _ENOUGH and tissue.size < _LEAST_TISSUE * sample.size:
        share = 100 * tissue.size / sample.size
        return HuFinding("HU", "note", f"only {share:.2g} % of the values are above {_AIRLESS_HU}: {remedy}")
    for name, at, (low, high) in (("air", air_at, _AIR_HU), ("tissue", tissue_at, _TISSUE_HU)):
        if at is not None and not low <= at <= high:
            return HuFinding(
                "HU", "note", f"most {name} is at {at}, in HU it is at {low} to {high}: {remedy}"
            )
    return None


def _peak(values: npt.NDArray[Any]) -> int | None:
    """Return the middle of the fullest bin of a smoothed histogram, None of too few values."""
    if values.size < _ENOUGH:
        return None
    bins = (np.clip(values, PADDING_HU, 3071).astype(np.int64) - PADDING_HU) // _BIN_HU
    counts = np.bincount(bins.astype(np.intp))
    smooth = np.convolve(counts, np.ones(3), mode="same")
    return int(smooth.argmax()) * _BIN_HU + _BIN_HU // 2 + PADDING_HU


def implausible_hu(array: npt.NDArray[Any]) -> HuFinding | None:
    """Return why a (z, y, x) array cannot be a chest CT in HU, nothing if it can."""
    return next((finding for finding in judge_hu(array) if finding.level in ("ask", "refuse")), None)


def refuse_implausible_hu(array: npt.NDArray[Any]) -> None:
    """Raise if a (z, y, x) array cannot be a chest CT in HU, with a word on what it may be.

    Raises
    ------
    InputError
        If the volume is constant, or holds no air.
    """
    if finding := implausible_hu(array):
        raise InputError(finding.text)
