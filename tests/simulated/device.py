"""What the simulated driver says of its GPU."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Device"]


@dataclass(frozen=True)
class Device:
    """What the driver says of the GPU. driver: the newest CUDA that it supports, 12060 for 12.6; count: 0 for no GPU.

    installed: whether there is a driver at all."""

    name: str = "Simulated GPU"
    capability: tuple[int, int] = (8, 7)
    multiprocessors: int = 16
    memory: int = 8 << 30
    integrated: bool = False
    driver: int = 13000
    bus: str = "0000:01:00.0"
    uuid: bytes = bytes(range(16))
    count: int = 1
    installed: bool = True
    attributes: dict[str, int] = field(default_factory=dict)  # others, by the end of their CU_DEVICE_ATTRIBUTE_ name

    def attribute(self, name: str) -> int:
        """Return an attribute of the device, by the end of its CU_DEVICE_ATTRIBUTE_ name."""
        domain, bus, slot = (int(part, 16) for part in self.bus.split(".")[0].split(":"))
        known = {
            "ASYNC_ENGINE_COUNT": 2,
            "CAN_MAP_HOST_MEMORY": 1,
            "COMPUTE_CAPABILITY_MAJOR": self.capability[0],
            "COMPUTE_CAPABILITY_MINOR": self.capability[1],
            "CONCURRENT_KERNELS": 1,
            "INTEGRATED": int(self.integrated),
            "MULTIPROCESSOR_COUNT": self.multiprocessors,
            "PCI_BUS_ID": bus,
            "PCI_DEVICE_ID": slot,
            "PCI_DOMAIN_ID": domain,
            "STREAM_PRIORITIES_SUPPORTED": 1,
            "UNIFIED_ADDRESSING": 1,
            "WARP_SIZE": 32,
        }
        return (known | self.attributes).get(name, 0)
