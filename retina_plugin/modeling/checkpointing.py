"""Gradient checkpointing: activations below the pyramid are recomputed in the backward pass instead of stored."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_gradients(network: nn.Module) -> int:
    """Make the blocks of a network store only their input for the backward pass, in place.

    Gradients and the statistics of BatchNorm are unchanged.

    Args:
        network: its blocks are the children of its outermost sequences or, if it has none, those of the first module
            with several children.

    Returns:
        Number of blocks.

    Source: Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*.
    """
    blocks = list(_blocks(network))
    while not blocks:
        parts = [child for child in network.children() if _has_weights(child)]
        if len(parts) != 1:
            blocks = parts
            break
        network = parts[0]
    for block in blocks:
        block.forward = _checkpointed(block)
    return len(blocks)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the children of the outermost sequences with several parts that have weights."""
    for child in module.children():
        parts = [part for part in child.children() if _has_weights(part)]
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(parts) > 1:
            yield from parts
        else:
            yield from _blocks(child)


def _has_weights(module: nn.Module) -> bool:
    """Return whether a module has any parameter."""
    return next(module.parameters(), None) is not None


def _checkpointed(block: nn.Module) -> Callable[..., Any]:
    """Return the forward function of a block, with checkpointing in training."""
    forward = block.forward

    def run(*args: Any, **kwargs: Any) -> Any:
        """Run the block, storing only its input if a gradient will be needed."""
        tensors = [*block.parameters(), *(x for x in args if isinstance(x, torch.Tensor))]
        is_trained = any(x.requires_grad for x in tensors)
        if not (block.training and torch.is_grad_enabled() and is_trained):
            return forward(*args, **kwargs)
        return checkpoint(
            forward,
            *args,
            use_reentrant=False,
            context_fn=lambda: (contextlib.nullcontext(), _statistics_kept(block)),
            **kwargs,
        )

    return run


@contextlib.contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Keep BatchNorm from updating its statistics a second time when a block is recomputed."""
    layers = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    kept = [layer.momentum for layer in layers]
    counters = [_batch_counter(layer) for layer in layers]
    counted = [counter.clone() for counter in counters]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum in zip(layers, kept, strict=True):
            layer.momentum = momentum
        for counter, count in zip(counters, counted, strict=True):
            counter.copy_(count)


def _batch_counter(layer: _BatchNorm) -> torch.Tensor:
    """Return the counter () of a BatchNorm layer that tracks statistics."""
    counter = layer.num_batches_tracked
    assert counter is not None, "BatchNorm that tracks statistics counts batches"
    return counter
