"""What ``nnmedseg_convert --list`` shows: all data sets, or one with its options and splits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnmedseg.dataset_conversion.base import DatasetConverter

logger = logging.getLogger(__name__)


def show(name: str | None) -> None:
    """Show one data set, or a table of all when ``name`` is None.

    Raises:
        NotFoundError: There is no such data set.
    """
    from nnmedseg.dataset_conversion.registry import find_converter, list_converters

    if name is not None:
        _show_one(type(find_converter(name)))
        return
    rows = [("NAME", "NUMBER", "PAGE")]
    rows += [(known.name, str(known.number or "-d ID"), known.page) for known in list_converters()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        logger.info("%s", "  ".join(cells).rstrip())


def _show_one(converter: type[DatasetConverter]) -> None:
    from nnmedseg.dataset_conversion.protocols import list_protocols

    number = converter.number or "chosen with -d ID"
    lines = {
        "data set": f"{converter.name} (number {number})",
        "what": converter.title,
        "page": converter.page,
        "licence": converter.licence,
        "cite": converter.citation,
        "options": ", ".join(
            f"--{option.replace('_', '-')}" for option in sorted(converter.understands)
        ),
    }
    lines |= {f"--include {name}": what for name, what in converter.includes.items()}
    lines |= {
        f"--split {protocol.name}": f"{protocol.paper}: {protocol.what}"
        for protocol in list_protocols(converter.name)
    }
    width = max(map(len, lines))
    for key, value in lines.items():
        if value:
            logger.info("%s  %s", key.ljust(width), value)
