"""Faces in images and videos: detect, find landmarks, align, follow.

`FacePipeline().crop(frame)` cuts one frame; `faces_of_video(path, …)` follows the largest face through a video. dlib and OpenCV
load when one of the names is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preprocessing.faces.alignment import align, similarity_to_template, warp_points
    from preprocessing.faces.box import Box
    from preprocessing.faces.detection import FaceDetector, build_face_detector, finder_settings
    from preprocessing.faces.landmarks import LandmarkPredictor, find_predictor
    from preprocessing.faces.pipeline import Face, FacePipeline
    from preprocessing.faces.tracking import faces_of_video

__all__ = [
    "Box",
    "Face",
    "FaceDetector",
    "FacePipeline",
    "LandmarkPredictor",
    "align",
    "build_face_detector",
    "faces_of_video",
    "find_predictor",
    "finder_settings",
    "similarity_to_template",
    "warp_points",
]
_HOME = {
    "alignment": ("align", "similarity_to_template", "warp_points"),
    "box": ("Box",),
    "detection": ("FaceDetector", "build_face_detector", "finder_settings"),
    "landmarks": ("LandmarkPredictor", "find_predictor"),
    "pipeline": ("Face", "FacePipeline"),
    "tracking": ("faces_of_video",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
