"""A convolution on PyTorch, as a backend of convbench.

``convbench verify --target mine@cpu`` (or gpu:0) holds it against a float64 oracle, and ``convbench
bench`` measures it. Put your own kernel where ``run`` is; `convbench.backends.base` is the whole
contract.
"""

from __future__ import annotations

from typing import Any, ClassVar

from convbench.backends.base import Array, Backend, Capabilities, DeviceArray, Hole, Run, Weights
from convbench.stimulus.spec import PipelineSpec


class MyBackend(Backend):
    """torch.nn.functional.conv2d, on the CPU and on each GPU."""

    name = "mine"
    # Modules that must be importable, and what installs them.
    requires: ClassVar = ("torch",)
    install = "pip install torch"
    # What it does not compute is declared, with the reason: it is skipped then, and not wrong.
    capabilities = Capabilities(
        devices=("cpu", "gpu"),
        holes=(Hole("pools", "they are not written yet", lambda spec, _: spec.pool is not None),),
    )

    def __init__(self, device: str, variant: str = "") -> None:
        super().__init__(device, variant)
        self._torch: Any = self.library()  # imported here and in devices(), and nowhere else
        self._device = self._torch.device(device.replace("gpu", "cuda"))
        # float32 is IEEE's here; TF32 is another format.
        self._torch.backends.cuda.matmul.allow_tf32 = False
        self._torch.backends.cudnn.allow_tf32 = False

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        """Which devices there are, as in ("cpu", "gpu:0")."""
        torch: Any = cls.library()
        return ("cpu", *(f"gpu:{i}" for i in range(torch.cuda.device_count())))

    def to_device(self, array: Array) -> DeviceArray:
        """Copy the input, (N, H, W, C), to where it is computed."""
        native = array.astype(array.dtype.newbyteorder("="))
        return self._torch.tensor(native, device=self._device)

    def to_numpy(self, array: DeviceArray) -> Array:
        """Copy the output, (N, P, Q, K), back, waiting for it."""
        return array.cpu().numpy()

    def build(self, pipeline: PipelineSpec, weights: Weights) -> Run:
        """Do once, untimed, what does not depend on the input."""
        self.check(pipeline, weights.dtype)  # refuses what is declared above
        torch, conv = self._torch, pipeline.conv
        placed = self.place(weights)  # filters (R, S, C // groups, K) and bias (K,), or None
        if conv is None:
            return Run(lambda x: x + placed.bias, "add")
        filters: Any = placed.filters
        filters = filters.permute(3, 2, 0, 1).contiguous()  # torch's order
        rows, columns = pipeline.conv_windows  # what padding and stride come to along H and W
        pads = (columns.before, columns.after, rows.before, rows.after)
        functional = torch.nn.functional

        @torch.inference_mode()
        def run(x: DeviceArray) -> DeviceArray:
            """What is timed. It leaves x alone, and gives a new array each time."""
            y = functional.conv2d(
                functional.pad(x.permute(0, 3, 1, 2), pads),
                filters,
                placed.bias,
                (rows.stride, columns.stride),
                0,
                (rows.dilation, columns.dilation),
                conv.groups,
            )
            return y.permute(0, 2, 3, 1).contiguous()

        return Run(run, "torch conv2d")

    def synchronize(self) -> None:
        """Wait until all of it is done: without this, a GPU looks as fast as the asking is."""
        if self._device.type == "cuda":
            self._torch.cuda.synchronize(self._device)

    def versions(self) -> dict[str, str]:
        """What decides the result, for the evidence."""
        return {"torch": self._torch.__version__, "cuda": str(self._torch.version.cuda)}
