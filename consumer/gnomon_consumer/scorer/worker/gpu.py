"""What a worker uses of the GPUs, through NVML: null where there is no GPU, driver, or `nvidia-ml-py` (extra gpu).

NVML names processes as the host does. In a container with process ids of its own it shows a worker nothing, and the
figures are null too: a number is never made up.
"""

import importlib
from typing import Any, NamedTuple


class GpuUse(NamedTuple):
    """Since the last reading: time with work on a GPU, in microseconds; and memory held now, in bytes."""

    us: int | None
    bytes: int | None


NOTHING = GpuUse(None, None)


class GpuMeter:
    """One process on all GPUs of this machine. `library` is `pynvml` or one like it; `pid` is the host's."""

    def __init__(self, library: Any, pid: int) -> None:
        self._nvml = library
        self._pid = pid
        self._devices = [library.nvmlDeviceGetHandleByIndex(at) for at in range(library.nvmlDeviceGetCount())]
        self._seen: dict[int, int] = {}  # the newest sample of each device, microseconds

    def read(self) -> GpuUse:
        """What was used since the last reading; the first one only begins."""
        times = [self._time(at, device) for at, device in enumerate(self._devices)]
        sizes = [self._memory(device) for device in self._devices]
        return GpuUse(_sum(times), _sum(sizes))

    def _time(self, at: int, device: Any) -> int | None:
        """Utilisation samples times the time between them; None where this process is in none of them."""
        since = self._seen.get(at, 0)
        try:
            found = self._nvml.nvmlDeviceGetProcessUtilization(device, since)
        except self._nvml.NVMLError:  # no sample since the last one, or a device that has none
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
    """The meter of a process, or None where NVML is not to be had."""
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
