"""One training step: Detectron2's loop with loss scaling, and a loss that is not finite explained."""

import contextlib
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
        optimizer: stepped once every ``accumulate`` batches.
        accumulate: SOLVER.ACCUMULATE, batches whose gradients are averaged for a step.
    """

    def __init__(self, model: torch.nn.Module, data_loader, optimizer: torch.optim.Optimizer, *, accumulate: int = 1) -> None:
        super().__init__(model, data_loader, optimizer)
        self.accumulate = accumulate
        module = model.module if isinstance(model, DistributedDataParallel) else model
        self.grad_scaler = torch.amp.GradScaler(module.device.type, enabled=getattr(module, "autocast_dtype", None) == torch.float16)

    def run_step(self) -> None:
        """One step: data, losses, gradients, a check that the loss is finite, update.

        Raises:
            FloatingPointError: the loss is not finite; the weights are as they were before the step.
        """
        self.optimizer.zero_grad()
        data, sums, data_time = [], {}, 0.0
        for part in range(self.accumulate):
            start = time.perf_counter()
            batch = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            data += batch
            last = part + 1 == self.accumulate
            # Gradients of several GPUs are averaged once, with the last part.
            with contextlib.nullcontext() if last or not isinstance(self.model, DistributedDataParallel) else self.model.no_sync():
                losses = {name: loss / self.accumulate for name, loss in self.model(batch).items()}
                self.grad_scaler.scale(sum(losses.values())).backward()
            sums = {name: sums.get(name, 0) + loss.detach() for name, loss in losses.items()}
        self.after_backward()
        try:
            self._write_metrics(sums, data_time)
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
