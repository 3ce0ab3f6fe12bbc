"""Facts of data sets that need no files."""

from nnmedseg.planners.facts import DatasetFacts


def photographs(**changed) -> DatasetFacts:
    """Ten RGB photographs of 600 x 800 pixels with one large region each."""
    count = 10
    facts = {
        "without_spacing": count,
        "eight_bit": True,
        "channels": 3,
        "image_sizes": ((600, 800),) * count,
        "cropped_sizes": ((600, 800),) * count,
        "foreground_shares": (0.2,) * count,
        "spans": {"lesion": ((250.0,),) * count},
    }
    return DatasetFacts(**{**facts, **changed})


def volumes(**changed) -> DatasetFacts:
    """Ten CT volumes of 512 x 512 voxels a slice."""
    return photographs(
        **{"without_spacing": 0, "eight_bit": False, "channels": 1, "spans": {}, **changed}
    )
