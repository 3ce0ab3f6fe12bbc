"""What ``preprocessing.py`` measures of ours, in a process that imports nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

from nnmedseg.paths import Folders
from nnmedseg.planners.fingerprint import extract_fingerprint
from nnmedseg.planners.preprocessing import preprocess


def main() -> None:
    """Extract the fingerprint of data sets and preprocess them."""
    root, workers, plans, configuration, *datasets = sys.argv[1:]
    folders = Folders(Path(root, "raw"), Path(root, "ours"), Path(root, "results"))
    for dataset in datasets:
        extract_fingerprint(dataset, int(workers), folders=folders)
        preprocess(dataset, plans, configuration, folders=folders, num_workers=int(workers))


if __name__ == "__main__":
    main()
