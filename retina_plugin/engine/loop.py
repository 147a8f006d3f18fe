"""Which arithmetic the convolutions use. Losses and box decoding are float32 in any case."""

import time

import torch
from torch.nn.parallel import DistributedDataParallel

from detectron2.config import CfgNode
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import get_event_storage

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices faster than float32 ones.

    On CPUs that takes AMX tiles: AVX-512 has bf16 instructions too, but convolutions with them were
    measured to be slower than float32 (see docs/results.md).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() if hasattr(torch.cpu, "_is_amx_tile_supported") else False


def resolve_precision(cfg: CfgNode, device: torch.device) -> torch.dtype | None:
    """The autocast type that SOLVER.AMP asks for on a device; None for plain float32.

    Raises:
        ValueError: fp16 on a CPU.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    name = cfg.SOLVER.AMP.PRECISION
    if name == "auto":
        name = "bf16" if fast_bf16(device) else "fp16" if device.type == "cuda" else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise ValueError(f"SOLVER.AMP.PRECISION fp16 needs a GPU; on {device.type} use auto, bf16 or fp32")
    return DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype | None) -> torch.autocast:
    """The context in which the model runs; it does nothing for ``dtype`` None."""
    return torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


class PrecisionTrainer(SimpleTrainer):
    """Detectron2's loop with autocast on any device, loss scaling for fp16, and a NaN that names its batch.

    Args:
        model: returns a dict of losses.
        data_loader: yields lists of dataset dicts.
        optimizer: stepped once a batch.
        dtype: None (float32), bfloat16 or float16.
    """

    def __init__(self, model: torch.nn.Module, data_loader, optimizer: torch.optim.Optimizer, *, dtype: torch.dtype | None) -> None:
        super().__init__(model, data_loader, optimizer)
        module = model.module if isinstance(model, DistributedDataParallel) else model
        self.device, self.dtype = module.device, dtype
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=dtype == torch.float16)

    def run_step(self) -> None:
        """One step: data, losses, gradients, a check that the loss is finite, update.

        Raises:
            FloatingPointError: the loss is not finite; the weights are as they were before the step.
        """
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with autocast(self.device, self.dtype):
            losses = self.model(data)
        self.optimizer.zero_grad()
        self.grad_scaler.scale(sum(losses.values())).backward()
        self.after_backward()
        try:
            self._write_metrics(losses, data_time)
        except FloatingPointError as error:
            rates = [group["lr"] for group in self.optimizer.param_groups]
            images = "\n  ".join(f"{x.get('file_name')} with {len(x['instances'])} boxes" for x in data)
            raise FloatingPointError(f"{error}\nlearning rate {max(rates):g}; the batch of this process:\n  {images}") from error
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if self.grad_scaler.is_enabled():
            get_event_storage().put_scalar("grad_scale", self.grad_scaler.get_scale())

    def state_dict(self) -> dict:
        """Adds the loss scale, so that a resumed fp16 run goes on with it."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore optimizer and loss scale."""
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
