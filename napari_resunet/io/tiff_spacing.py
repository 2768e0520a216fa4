"""Voxel size and place from the metadata of a TIFF: ImageJ's, OME's and our own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from napari_resunet.errors import GeometryError
from napari_resunet.geometry import Geometry

_MM_PER_UNIT = {
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
    **dict.fromkeys(("µm", "μm", "um", "micron", "microns", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "metre"), 1000.0),
    **dict.fromkeys(("in", "inch", '"'), 25.4),
}
_OUR_KEY = "napari_resunet"

Spacing = tuple[float, float, float]


def mm_per_unit(unit: str) -> float | None:
    """Return the length of a unit in mm, None if it is none ("pixel", "")."""
    name = unit.strip().replace("\\u00B5", "µ").lower()
    return _MM_PER_UNIT.get(name)


def imagej_spacing(metadata: Mapping[str, Any], resolution: Sequence[float]) -> Spacing | None:
    """Return the spacing (z, y, x) in mm of an ImageJ TIFF, None if it is not stated.

    Parameters
    ----------
    metadata : mapping
        ImageJ's description: `unit` and `spacing`, the latter in that unit.
    resolution : (x, y) floats
        Pixels per unit.
    """
    unit = mm_per_unit(str(metadata.get("unit", "")))
    if unit is None or "spacing" not in metadata:
        return None
    x, y = resolution
    if min(x, y) <= 0:
        return None
    return _valid(abs(float(metadata["spacing"])) * unit, unit / y, unit / x)


def ome_spacing(xml: str) -> Spacing | None:
    """Return the spacing (z, y, x) in mm of the first image in OME-XML, None if it is not stated in full."""
    try:
        pixels = _ome_pixels(xml)
        sizes = [float(pixels.attrib[f"PhysicalSize{axis}"]) for axis in "ZYX"]
    except (ElementTree.ParseError, StopIteration, KeyError, ValueError):
        return None
    units = [mm_per_unit(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"]
    z, y, x = (size * unit if unit is not None else 0.0 for size, unit in zip(sizes, units, strict=True))
    return _valid(z, y, x)


def ome_pages(xml: str) -> int | None:
    """Return how many planes the first image in OME-XML declares, None if it does not."""
    try:
        pixels = _ome_pixels(xml)
        return int(np.prod([int(pixels.attrib[f"Size{axis}"]) for axis in "ZCT"]))
    except (ElementTree.ParseError, StopIteration, KeyError, ValueError):
        return None


def _ome_pixels(xml: str) -> ElementTree.Element:
    return next(element for element in ElementTree.fromstring(xml).iter() if element.tag.endswith("}Pixels"))


def place_as_text(geometry: Geometry) -> str:
    """Return the geometry as a line for ImageJ's Info, to be read back to the bit."""
    place = {"shape_zyx": geometry.shape, "index_to_lps": geometry.index_to_lps.tolist()}
    return json.dumps({_OUR_KEY: place})


def place_from_text(text: str) -> Geometry | None:
    """Return the geometry that `place_as_text` wrote, None if there is none in `text`."""
    try:
        place = json.loads(text)[_OUR_KEY]
        return Geometry(tuple(place["shape_zyx"]), np.array(place["index_to_lps"], dtype=np.float64))
    except (ValueError, TypeError, KeyError, GeometryError):
        return None


def _valid(z: float, y: float, x: float) -> Spacing | None:
    return (z, y, x) if np.isfinite([z, y, x]).all() and min(z, y, x) > 0 else None
