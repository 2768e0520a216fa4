"""Lung segmentation in CT with a deep Residual U-Net: predict, check, correct, export.

One flow, one direction::

    file --read--> Volume --predict--> ProbabilityMap --to_mask--> Mask --corrections--> Mask --write--> file

Where things live, each importing only from what stands above it::

    errors                      every error raised on purpose
    geometry, settings, track   where voxels lie; the choices a user can make; progress and cancelling
    hu                          whether voxel values are Hounsfield units
    volume                      what flows: Volume (HU), ProbabilityMap (uint8), Mask
    record                      a case put away: what a case file and the journal hold
    io/                         files <-> Volume, Mask, record: DICOM, NIfTI, TIFF, MetaImage, NRRD, .nru
    imaging/                    arrays in, arrays out: body, components, right and left
    model/                      the network, its card, its weights (builtin/), devices, slices through the network
    measure/                    agreement of two masks, ml and HU of the lungs, doubt slice by slice
    phantom/                    a made-up chest CT with known lungs
    pictures                    contours and curves as PNG
    inference/                  predict (streams slices), postprocess (threshold, clean-up, sides)
    training/                   cases, dataset, augment, losses, loop, calibration; fine-tuning on corrected cases
    images/                     images that are no CT, grey or colour, one class or several: training, prediction
    editing/                    what a hand changed, the tools that correct a mask, the review, the journal of edits
    preflight                   what is checked of a CT before the network runs
    case                        one open case, the only object that changes
    saved_case                  what a case that was put away adds up to
    workflows                   whole jobs: segment, evaluate, train, convert, demo
    image_jobs                  the jobs of training on images that are no CT, and of segmenting one
    lessons                     the job of letting a model learn, and what corrected cases teach
    facts                       what a machine, a CT or a model is, in plain names and values
    cohort/                     many CTs: found, shared out to workers, told on disk; reviewed one after the other
    cli/                        the command line, a file a subject: one CT, figures, the window, cohorts, models
    plugin/                     the window; the only folder that knows napari and Qt
    __main__                    starts the command line, and hands it the window

Importing this module imports nothing heavy; each name below is loaded when it is first used.
For research use only; not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_resunet.errors import DeviceError, InputError, OutputError, PredictionError, ResUNetError
    from napari_resunet.images.predict import image_labels, predict_image
    from napari_resunet.inference.postprocess import to_mask
    from napari_resunet.inference.predict import predict
    from napari_resunet.io.dicom_list import list_series
    from napari_resunet.io.files import read_mask, read_volume, write_mask, write_probability
    from napari_resunet.measure.agreement import evaluate
    from napari_resunet.measure.lungs import lung_figures
    from napari_resunet.model.checkpoint import load_model
    from napari_resunet.phantom import make_phantom
    from napari_resunet.volume import Mask, ProbabilityMap, Volume

__all__ = [
    "DeviceError",
    "InputError",
    "Mask",
    "OutputError",
    "PredictionError",
    "ProbabilityMap",
    "ResUNetError",
    "Volume",
    "evaluate",
    "image_labels",
    "list_series",
    "load_model",
    "lung_figures",
    "make_phantom",
    "predict",
    "predict_image",
    "read_mask",
    "read_volume",
    "to_mask",
    "write_mask",
    "write_probability",
]

_HOMES = {
    "DeviceError": "errors",
    "InputError": "errors",
    "Mask": "volume",
    "OutputError": "errors",
    "PredictionError": "errors",
    "ProbabilityMap": "volume",
    "ResUNetError": "errors",
    "Volume": "volume",
    "evaluate": "measure.agreement",
    "image_labels": "images.predict",
    "list_series": "io.dicom_list",
    "load_model": "model.checkpoint",
    "lung_figures": "measure.lungs",
    "make_phantom": "phantom",
    "predict": "inference.predict",
    "predict_image": "images.predict",
    "read_mask": "io.files",
    "read_volume": "io.files",
    "to_mask": "inference.postprocess",
    "write_mask": "io.files",
    "write_probability": "io.files",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # slow to import, and seldom asked for

        return metadata.version("napari-resunet")
    if name in _HOMES:
        return getattr(import_module(f"napari_resunet.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'napari_resunet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
