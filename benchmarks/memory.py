"""How the scripts measure memory: the rise of a process, or of a GPU, to its peak."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress
from pathlib import Path

import torch

MEBIBYTE = 2**20


def memory(device: torch.device) -> tuple[int, int] | None:
    """Bytes in use now and at most so far, of the device or of this process on a CPU.

    ``None`` where nothing tells them.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()
    if device.type != "cpu":
        return None
    if sys.platform == "linux":  # there ru_maxrss starts at the peak of the parent process
        lines = Path("/proc/self/status").read_text().splitlines()
        sizes = dict(line.split(":", 1) for line in lines)
        now, peak = (int(sizes[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))
        return now, peak
    if sys.platform == "darwin":
        import resource  # noqa: PLC0415 - not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak, peak
    return None


def release(device: torch.device) -> None:
    """Hand back what was freed, and forget the peak where that is possible."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps freed blocks
        if trim:
            trim(0)
        with suppress(OSError):  # read-only in some containers; the old peak is lower anyway
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew


def available_bytes() -> float:
    """What a further process can take; infinite where the system does not tell."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return float("inf")
    sizes = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return min(int(sizes["MemAvailable"].split()[0]) * 1024, _left_in_container())


def _left_in_container() -> float:
    used, limit = (Path("/sys/fs/cgroup") / name for name in ("memory.current", "memory.max"))
    if not limit.exists() or limit.read_text().strip() == "max":
        return float("inf")
    return int(limit.read_text()) - int(used.read_text())
