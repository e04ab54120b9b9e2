"""A worker's GPU usage, by NVML: null without a GPU, a driver, or `nvidia-ml-py` (extra gpu).

NVML uses the host's process ids. In a container with its own process ids it reports nothing for a worker, and the
figures are null too, never estimated.
"""

import importlib
from typing import Any, NamedTuple


class GpuUse(NamedTuple):
    """Usage since the last reading: time with work on a GPU, in microseconds; and memory held now, in bytes."""

    us: int | None
    bytes: int | None


NOTHING = GpuUse(None, None)


class GpuMeter:
    """Reads one process's use of all GPUs of this machine. `library` is `pynvml` or compatible; `pid` is the host's."""

    def __init__(self, library: Any, pid: int) -> None:
        self._nvml = library
        self._pid = pid
        self._devices = [library.nvmlDeviceGetHandleByIndex(at) for at in range(library.nvmlDeviceGetCount())]
        self._seen: dict[int, int] = {}  # the time of the newest sample of each device, microseconds

    def read(self) -> GpuUse:
        """Return the usage since the last reading; the first reading only starts the measurement."""
        times = [self._time(at, device) for at, device in enumerate(self._devices)]
        sizes = [self._memory(device) for device in self._devices]
        return GpuUse(_sum(times), _sum(sizes))

    def _time(self, at: int, device: Any) -> int | None:
        """Return utilisation samples times the time between them; None if this process is in none of them."""
        since = self._seen.get(at, 0)
        try:
            found = self._nvml.nvmlDeviceGetProcessUtilization(device, since)
        except self._nvml.NVMLError:  # no sample since the last reading, or a device without samples
            return None
        ours = sorted((one.timeStamp, one.smUtil) for one in found if one.timeStamp > since and one.pid == self._pid)
        self._seen[at] = max([since, *(one.timeStamp for one in found)])
        if not since or not ours:
            return None
        used = 0.0
        for moment, percent in ours:
            used += percent / 100 * (moment - since)
            since = moment
        return round(used)

    def _memory(self, device: Any) -> int | None:
        try:
            found = self._nvml.nvmlDeviceGetComputeRunningProcesses(device)
        except self._nvml.NVMLError:
            return None
        return _sum([one.usedGpuMemory for one in found if one.pid == self._pid])


def open_meter(pid: int) -> GpuMeter | None:
    """Return the meter of a process, or None without NVML."""
    try:
        library = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        library.nvmlInit()
        return GpuMeter(library, pid)
    except library.NVMLError:
        return None


def _sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
