"""What the ISIC challenges of 2016, 2017 and 2018 have in common."""

from __future__ import annotations

IMAGE_NAME = r"(?P<id>ISIC_\d+)"
MASK_NAME = r"(?P<id>ISIC_\d+)_segmentation"
SHARED_IMAGES = (
    "ISIC 2016, 2017 and 2018 share most of their images, some with different masks: do not train "
    "on one and test on another before nnmedseg_check_overlap has found the images that they share"
)
