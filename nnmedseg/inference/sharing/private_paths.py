"""Taking the folders of one machine out of what is handed to others."""

from __future__ import annotations

import re
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_FOLDERS = re.compile(r"""(?<![\w:/\\.])(?:~|[A-Za-z]:)?[\\/](?:[^\\/\s"',;:]+[\\/])+""")
"""The folders of an absolute path within a text; the slashes of web addresses follow a colon."""


def without_private_paths(content: Any) -> Any:
    """Return JSON content in which only the last part of each absolute path is left.

    Args:
        content: What ``json.loads`` returns. Keys of dictionaries are treated too.
    """
    if isinstance(content, dict):
        return {_shortened(key): without_private_paths(value) for key, value in content.items()}
    if isinstance(content, list):
        return [without_private_paths(value) for value in content]
    return _shortened(content) if isinstance(content, str) else content


def _shortened(text: str) -> str:
    if PurePosixPath(text).is_absolute():
        return PurePosixPath(text).name
    windows = PureWindowsPath(text)
    if windows.drive and windows.root:
        return windows.name
    return _FOLDERS.sub("", text)
