"""A made-up chest CT with known lungs, for the sample, the demo and the tests."""

from napari_resunet.phantom.chest import LEFT_LUNG, PADDING_HU, RIGHT_LUNG, Phantom, make_phantom

__all__ = ["LEFT_LUNG", "PADDING_HU", "RIGHT_LUNG", "Phantom", "make_phantom"]
