"""Plans as a table and as sentences, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnmedseg.errors import NotFoundError
from nnmedseg.files import read_json
from nnmedseg.nnunet.plans_files import resolved_configuration
from nnmedseg.paths import Folders
from nnmedseg.planners.configurations import PAPER, WORKING

HEADINGS = ("TRAINER", "PLANS", "CONFIGURATION", "PATCH", "BATCH", "GIB", "ITERATIONS")
TEXT_COLUMNS = 4
COLUMN_GAP = "  "


def read_configurations(plans_file: Path) -> dict[str, dict[str, Any]]:
    """Return the configurations of a plans file, each with what it inherits."""
    configurations = read_json(plans_file)["configurations"]
    return {name: resolved_configuration(configurations, name) for name in configurations}


def describe_plans(
    plans_files: Sequence[Path], configurations: Sequence[str] | None = None
) -> list[str]:
    """Return the lines of a table: trainer, patch, batch, memory, iterations to see the data once.

    The reasons follow: of the resolution once for each configuration, of patches by trainer.

    Args:
        plans_files: Plans of one data set.
        configurations: Which to show (default: all that differ from another one).
    """
    rows: list[tuple[str, ...]] = [HEADINGS]
    resolutions: dict[str, str] = {}
    patches: dict[str, str] = {}
    for plans_file in plans_files:
        for name, configuration in read_configurations(plans_file).items():
            details = configuration.get("nnmedseg")
            if details is None or name not in (configurations or _different(plans_file)):
                continue
            rows.append(_row(plans_file.stem, name, configuration))
            reason = details.get("resolution", {}).get("reason")
            if reason:
                resolutions.setdefault(name, reason)
            if name == WORKING and "patch" in details:
                patches[details["trainer"]] = details["patch"]
            if name == PAPER and "protocol" in details:
                reasons = f"{details['patch']}; {details['protocol']}"
                patches[f"{details['trainer']}, {PAPER}"] = reasons
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        COLUMN_GAP.join(
            cell.ljust(width) if column < TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += [f"{name}: {reason}" for name, reason in resolutions.items()]
    return lines + [f"{trainer}: {reason}" for trainer, reason in patches.items()]


def _different(plans_file: Path) -> list[str]:
    """Return the configurations that are not merely another name for one."""
    configurations = read_json(plans_file)["configurations"]
    return [name for name in configurations if set(configurations[name]) != {"inherits_from"}]


def _row(plans_name: str, name: str, configuration: dict[str, Any]) -> tuple[str, ...]:
    details = configuration["nnmedseg"]
    return (
        details.get("trainer") or "-",
        plans_name,
        name,
        "x".join(str(side) for side in configuration["patch_size"]),
        str(configuration["batch_size"]),
        f"{details['predicted_memory_gib']:.1f}",
        str(details["iterations_to_see_data_once"]),
    )


def show_plans(folders: Folders, dataset_name: str) -> list[str]:
    """Return the lines that describe all plans of a data set.

    Raises:
        NotFoundError: It has not been planned.
    """
    base = folders.preprocessed / dataset_name
    plans_files = sorted(
        path for path in base.glob("*.json") if "configurations" in read_json(path)
    )
    if not plans_files:
        raise NotFoundError(
            f"{dataset_name} has no plans yet",
            where=base,
            mend=f"run: nnmedseg_plan_and_preprocess -d {int(dataset_name[7:10])}",
        )
    return describe_plans(plans_files)
