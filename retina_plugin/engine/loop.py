"""One training step: Detectron2's loop with loss scaling, and a loss that is not finite explained."""

import time

import torch
from torch.nn.parallel import DistributedDataParallel

from detectron2.engine import SimpleTrainer
from detectron2.utils.events import get_event_storage


class PrecisionTrainer(SimpleTrainer):
    """Detectron2's loop with loss scaling where the model works in fp16, and a NaN that names its batch.

    Args:
        model: returns a dict of losses; casts for itself, and says to what in ``autocast_dtype``.
        data_loader: yields lists of dataset dicts.
        optimizer: stepped once a batch.
    """

    def __init__(self, model: torch.nn.Module, data_loader, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(model, data_loader, optimizer)
        module = model.module if isinstance(model, DistributedDataParallel) else model
        self.grad_scaler = torch.amp.GradScaler(module.device.type, enabled=getattr(module, "autocast_dtype", None) == torch.float16)

    def run_step(self) -> None:
        """One step: data, losses, gradients, a check that the loss is finite, update.

        Raises:
            FloatingPointError: the loss is not finite; the weights are as they were before the step.
        """
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
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
