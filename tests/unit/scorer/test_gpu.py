"""GPU time and memory from NVML's samples: a stand-in for the library, with its names and its errors."""
# ruff: noqa: N802 - the names are the library's

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gnomon_consumer.scorer.captures import Rows
from gnomon_consumer.scorer.outcomes import Outcomes
from gnomon_consumer.scorer.pool.jobs import Finished, Job
from gnomon_consumer.scorer.sampling.open_window import AssignmentToken
from gnomon_consumer.scorer.sealed.sampled_rows import SampledRows
from gnomon_consumer.scorer.sealed.window import Seal, SealedWindow, Tick
from gnomon_consumer.scorer.worker.gpu import NOTHING, GpuMeter, open_meter
from gnomon_schemas.codec import Reader
from gnomon_schemas.store import packaged_schemas

OURS, OTHER = 4711, 815


class NVMLError(Exception):
    """As pynvml's."""


class Nvml:
    """Two devices. `samples[device]` are (time in microseconds, process, per cent); `memory[device]` by process."""

    NVMLError = NVMLError

    def __init__(self, devices: int = 2, broken: bool = False) -> None:
        self.devices, self.broken = devices, broken
        self.samples: list[list[tuple[int, int, int]]] = [[] for _ in range(devices)]
        self.memory: list[dict[int, int | None]] = [{} for _ in range(devices)]

    def nvmlInit(self) -> None:
        if self.broken:
            raise NVMLError("driver not loaded")

    def nvmlDeviceGetCount(self) -> int:
        return self.devices

    def nvmlDeviceGetHandleByIndex(self, at: int) -> int:
        return at

    def nvmlDeviceGetProcessUtilization(self, device: int, since: int) -> list[Any]:
        found = [(moment, pid, share) for moment, pid, share in self.samples[device] if moment > since]
        if not found:
            raise NVMLError("not found")
        return [SimpleNamespace(timeStamp=moment, pid=pid, smUtil=share) for moment, pid, share in found]

    def nvmlDeviceGetComputeRunningProcesses(self, device: int) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.memory[device].items()]


def test_time_is_utilisation_times_the_time_between_samples() -> None:
    nvml = Nvml()
    nvml.samples[0] = [(1_000_000, OURS, 90)]
    nvml.memory = [{OURS: 300, OTHER: 5000}, {OURS: 40}]
    meter = GpuMeter(nvml, OURS)
    assert meter.read() == (None, 340)  # usage before the first reading belongs to nobody
    nvml.samples[0] += [(1_200_000, OURS, 50), (1_300_000, OTHER, 100), (1_400_000, OURS, 25)]
    assert meter.read() == (100_000 + 50_000, 340)
    assert meter.read() == (None, 340)
    nvml.samples[0] += [(1_500_000, OTHER, 100)]
    nvml.memory = [{OTHER: 5000}, {}]
    assert meter.read() == NOTHING


def test_memory_that_the_driver_does_not_tell_is_null() -> None:
    nvml = Nvml(1)
    nvml.memory[0] = {OURS: None}
    assert GpuMeter(nvml, OURS).read() == NOTHING


def test_no_library_and_no_driver_are_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_meter(OURS) is None
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(broken=True))
    assert open_meter(OURS) is None
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())
    meter = open_meter(OURS)
    assert meter is not None
    assert meter.read() == NOTHING


def test_a_window_adds_up_time_and_keeps_the_peak() -> None:
    seal = Seal(owner=AssignmentToken(0), window_id="w", start=0, end=0, opened_at=0, sealed_at=0, reason="time")
    window = SealedWindow(seal, SampledRows.none(0))
    nobody = np.empty(0, np.int64)
    job = Job(window_id="w", partition=0, sealed_at=0, rows=Rows.of([]), places=nobody, single=False)
    for us, held in ((None, None), (700, 1000), (300, 400)):
        window.store(Finished(job, Outcomes.of([]), nobody, gpu_us=us, gpu_peak_bytes=held))
    usage = (
        Reader(packaged_schemas())
        .decode(window.record(Tick(windows=[window], deadline=0.0, seed=0, policy="policy")))
        .record["usage"]
    )
    assert (usage["gpu_us"], usage["gpu_peak_bytes"]) == (1000, 1000)
