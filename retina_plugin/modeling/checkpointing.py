"""Less memory in training: activations of the network below the pyramid are computed again in the backward pass instead of kept."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_gradients(network: nn.Module) -> int:
    """Let the blocks of a network keep nothing but their input for the backward pass, in place.

    Gradients and the statistics of BatchNorm stay what they were.

    Args:
        network: its blocks are the children of its outermost sequences, or, where it has none, those of the first module that has several.

    Returns:
        How many blocks there are.

    Source: Chen et al. 2016, *Training Deep Nets with Sublinear Memory Cost*.
    """
    blocks = list(_blocks(network))
    while not blocks:
        parts = [child for child in network.children() if _has_weights(child)]
        blocks, network = (parts, network) if len(parts) != 1 else ([], parts[0])
    for block in blocks:
        block.forward = _checkpointed(block)
    return len(blocks)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The children of the outermost sequences of several parts with weights."""
    for child in module.children():
        parts = [part for part in child.children() if _has_weights(part)]
        if isinstance(child, nn.Sequential | nn.ModuleList) and len(parts) > 1:
            yield from parts
        else:
            yield from _blocks(child)


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _checkpointed(block: nn.Module) -> Callable:
    forward = block.forward

    def run(*args, **kwargs):
        trained = any(parameter.requires_grad for parameter in block.parameters()) or any(
            isinstance(x, torch.Tensor) and x.requires_grad for x in args
        )
        if not (block.training and torch.is_grad_enabled() and trained):
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
    """BatchNorm does not move its statistics a second time when a block is computed again."""
    layers = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    kept = [layer.momentum for layer in layers]
    counted = [layer.num_batches_tracked.clone() for layer in layers]
    for layer in layers:
        layer.momentum = 0.0
    try:
        yield
    finally:
        for layer, momentum, count in zip(layers, kept, counted, strict=True):
            layer.momentum = momentum
            layer.num_batches_tracked.copy_(count)
