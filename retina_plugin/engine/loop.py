"""One training step: Detectron2's loop with loss scaling and a check of losses and gradients before the update."""

import contextlib
import math
import time
from collections.abc import Callable, Iterable
from typing import NoReturn

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

SMALLEST_SCALE = 2.0**-10
"""Smallest plausible loss scale in fp16. Every overflow halves the scale; below this, fp16's range is not the cause."""


class TrainingDiverged(FloatingPointError):  # noqa: N818 - a public name, caught by scripts
    """Losses or gradients are not finite; the weights are as they were before the step."""


class DataLoadingError(RuntimeError):
    """The next batch could not be loaded, for example because a loader process died."""


class PrecisionTrainer(SimpleTrainer):
    """Detectron2's loop with loss scaling for models in fp16, and an error that names the batch of a NaN.

    Args:
        model: returns a dict of losses; does its own autocast, to the dtype in its attribute ``autocast_dtype``.
        data_loader: yields lists of dataset dicts.
        optimizer: stepped once every ``accumulate`` batches.
        accumulate: SOLVER.ACCUMULATE, number of batches whose gradients are averaged for a step.

    Attributes:
        explain: called with (batch, losses by name, gradient norm) when these are not finite; returns a line for the
            error message.
        stop_wanted: request to stop; set on one process, it sets ``stop_agreed`` on all at the end of the same step.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        data_loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        *,
        accumulate: int = 1,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.accumulate = accumulate
        module = model.module if isinstance(model, DistributedDataParallel) else model
        self.device = next(module.parameters()).device
        self.grad_scaler = torch.amp.GradScaler(
            self.device.type, enabled=getattr(module, "autocast_dtype", None) == torch.float16
        )
        self.explain: Callable[[list[dict], dict[str, float], float], str] | None = None
        self.stop_wanted = self.stop_agreed = False

    def run_step(self) -> None:
        """Run one step: data, losses, gradients, a check of both, update.

        Raises:
            TrainingDiverged: losses or gradients are not finite; the weights are as they were before the step.
            DataLoadingError: the loader failed.
        """
        self.optimizer.zero_grad()
        data: list[dict] = []
        sums: dict[str, torch.Tensor] = {}
        data_time = 0.0
        for part in range(self.accumulate):
            start = time.perf_counter()
            batch = self._next_batch()
            data_time += time.perf_counter() - start
            data += batch
            last = part + 1 == self.accumulate
            # Gradients of several GPUs are averaged once, with the last part.
            wrapped = isinstance(self.model, DistributedDataParallel)
            with self.model.no_sync() if wrapped and not last else contextlib.nullcontext():
                losses = {name: loss / self.accumulate for name, loss in self.model(batch).items()}
                self.grad_scaler.scale(sum(losses.values())).backward()
            sums = {name: sums.get(name, 0) + loss.detach() for name, loss in losses.items()}
        self.after_backward()
        self._check(sums, data_time, data)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if self.grad_scaler.is_enabled():
            get_event_storage().put_scalar("grad_scale", self.grad_scaler.get_scale())

    def _next_batch(self) -> list[dict]:
        try:
            return next(self._data_loader_iter)
        except StopIteration:
            raise DataLoadingError(
                "the training loader has run out of batches; it must be infinite, as Detectron2's are"
            ) from None
        except Exception as error:
            # An error of a loader process carries its stack trace as text; the last line is the reason.
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise DataLoadingError(
                f"loading the training data failed: {reason}. Set DATALOADER.NUM_WORKERS 0 to load in the main process "
                "and see where; loader processes that are killed have usually run out of memory (use fewer NUM_WORKERS)"
            ) from error

    def _check(self, losses: dict[str, torch.Tensor], data_time: float, data: list[dict]) -> None:
        """Log losses and gradient norm, and check that they are finite; all processes come to the same result.

        All values go to the CPU in one copy, the only synchronisation with the GPU in a step of this loop.
        """
        scale = self.grad_scaler.get_scale() if self.grad_scaler.is_enabled() else 1.0
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = (
            torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)).float()) / scale
            if gradients
            else torch.zeros((), device=self.device)
        )
        values = torch.stack([*(loss.float() for loss in losses.values()), norm])  # (losses + 1,)
        values = torch.cat([values, values.new_tensor([data_time, self.stop_wanted])])
        if comm.get_world_size() > 1:
            parts = [torch.empty_like(values) for _ in range(comm.get_world_size())]
            dist.all_gather(parts, values)
            values = torch.stack(parts)  # (processes, losses + 3)
        rows = values.reshape(-1, len(losses) + 3).tolist()
        means = {name: sum(row[i] for row in rows) / len(rows) for i, name in enumerate(losses)}
        norm = max((row[-3] for row in rows), key=lambda value: math.inf if math.isnan(value) else value)
        self.stop_agreed = any(row[-1] for row in rows)
        overflow = self.grad_scaler.is_enabled() and scale > SMALLEST_SCALE  # the scaler skips such a step
        if not all(map(math.isfinite, means.values())) or not (math.isfinite(norm) or overflow):
            self._diverged(means, norm, data)
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time)
        storage.put_scalar("data_time", max(row[-2] for row in rows))
        storage.put_scalars(total_loss=sum(means.values()), **means if len(means) > 1 else {})
        if math.isfinite(norm):
            storage.put_scalar("grad_norm", norm)

    def _diverged(self, losses: dict[str, float], norm: float, data: list[dict]) -> NoReturn:
        """Raise the error that describes the step and its batch."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        images = "\n  ".join(f"{x.get('file_name')} with {len(x.get('instances', ()))} boxes" for x in data)
        what = "the gradients" if all(map(math.isfinite, losses.values())) else "the loss"
        shown = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        dump = f"\n{self.explain(data, losses, norm)}" if self.explain else ""
        raise TrainingDiverged(
            f"{what} became infinite or NaN in iteration {self.iter + 1}: {shown}, gradient norm {norm:g}, learning "
            f"rate {max(rates):g}; the weights were not changed. The batch of this process:\n  {images}{dump}"
        )

    def state_dict(self) -> dict:
        """Return the state with the loss scale, so that a resumed fp16 run continues with it."""
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Restore optimizer and loss scale."""
        super().load_state_dict(state_dict)
        if state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
