"""The machine under the runs: the disk that the home lies on, and its GPUs where there are any."""

import ctypes
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxrl_ops.run_metrics import Sample, label


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; what its driver does not tell is None.

    Attributes:
        index: As the driver counts.
        utilization: Share of the last moments in which it computed, 0 to 1.
        memory_used, memory_total: Bytes.
        temperature: Degrees Celsius.
        power: Watts.
    """

    index: int
    name: str
    utilization: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    temperature: float | None = None
    power: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As `status --json` has it; None for what its driver does not tell."""
        return {
            "index": self.index,
            "name": self.name,
            "utilization": self.utilization,
            "memory_used_bytes": self.memory_used,
            "memory_total_bytes": self.memory_total,
            "temperature_celsius": self.temperature,
            "power_watts": self.power,
        }

    def sentence(self) -> str:
        """What `status` says of it."""
        figures = []
        if self.utilization is not None:
            figures.append(f"{self.utilization:.0%} busy")
        if self.memory_used is not None and self.memory_total is not None:
            figures.append(f"{_gib(self.memory_used)} of {_gib(self.memory_total)} GiB")
        if self.temperature is not None:
            figures.append(f"{self.temperature:.0f} C")
        if self.power is not None:
            figures.append(f"{self.power:.0f} W")
        return f"GPU {self.index} {self.name}: {', '.join(figures) or 'tells nothing'}"


def _gib(count: float) -> str:
    gib = count / 2**30
    return f"{gib:.0f}" if gib >= 10 else f"{math.floor(10 * gib) / 10:.1f}"


@dataclass(frozen=True, slots=True)
class HostView:
    """Figures of the machine; None where they cannot be had.

    Attributes:
        disk_free: Bytes that we may still write where the home lies.
        disk_total: Bytes.
    """

    disk_free: int | None = None
    disk_total: int | None = None
    gpus: tuple[Gpu, ...] = ()

    def sentence(self) -> str:
        """What `status` says of the machine; empty where nothing is known."""
        parts = [gpu.sentence() for gpu in self.gpus]
        if self.disk_free is not None and self.disk_total:
            share = self.disk_free / self.disk_total
            disk = f"disk {_gib(self.disk_free)} of {_gib(self.disk_total)} GiB free ({share:.0%})"
            parts.insert(0, disk)
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """As `status --json` has it; None where unknown."""
        return {
            "disk_free_bytes": self.disk_free,
            "disk_size_bytes": self.disk_total,
            "gpus": [gpu.to_json() for gpu in self.gpus],
        }

    def samples(self) -> Iterator[Sample]:
        """Its series."""
        if self.disk_free is not None and self.disk_total is not None:
            yield Sample("maxrl_ops_home_free_bytes", (), self.disk_free)
            yield Sample("maxrl_ops_home_size_bytes", (), self.disk_total)
        for gpu in self.gpus:
            labels = (str(gpu.index), label(gpu.name))
            for name, value in (
                ("utilization_ratio", gpu.utilization),
                ("memory_used_bytes", gpu.memory_used),
                ("memory_total_bytes", gpu.memory_total),
                ("temperature_celsius", gpu.temperature),
                ("power_watts", gpu.power),
            ):
                if value is not None:
                    yield Sample(f"maxrl_gpu_{name}", labels, value)


class Host:
    """Looks at the machine again and again; the GPUs' driver is asked for once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._nvml: Any = None
        self._is_asked = False

    def look(self) -> HostView:
        """What it is like now."""
        try:
            usage = shutil.disk_usage(self._home)
        except OSError:
            return HostView(gpus=self._gpus())
        return HostView(usage.free, usage.total, self._gpus())

    def _gpus(self) -> tuple[Gpu, ...]:
        nvml = self._driver()
        if nvml is None:
            return ()
        try:
            return tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
        except nvml.NVMLError:
            # A driver that was reloaded under us: it is asked for again.
            self._is_asked = False
            return ()

    def _driver(self) -> Any:
        if self._is_asked:
            return self._nvml
        self._is_asked, self._nvml = True, None
        try:
            # Where there is no driver, its module is a megabyte for nothing.
            ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return None
        try:
            import pynvml  # noqa: PLC0415 - only where somebody looks
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return None
        self._nvml = pynvml
        return pynvml


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def told(ask: Callable[[], float]) -> float | None:
        """None for what this card, or a part of one (MIG), does not tell."""
        try:
            return ask()
        except nvml.NVMLError:
            return None

    return Gpu(
        index,
        str(nvml.nvmlDeviceGetName(handle)),
        told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
        told(lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).used)),
        told(lambda: float(nvml.nvmlDeviceGetMemoryInfo(handle).total)),
        told(lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        told(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
    )
