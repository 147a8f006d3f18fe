"""Dump of a training step that diverged, and running that step again."""

import dataclasses
import json
import math
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from retina_plugin.config import config_from_text, dump_config
from retina_plugin.engine.finite import non_finite
from retina_plugin.engine.parts import part_of

FACTS, TENSORS = "dump.json", "step.pth"
"""Files of a dump: facts for people, and the tensors to run the step again."""

SHOWN = 5
"""Largest number of names in a line of the report."""


@dataclasses.dataclass
class Step:
    """Facts about a forward and a backward pass.

    Attributes:
        losses: by name.
        levels: by pyramid level: "largest_logit" and "largest_delta" (magnitudes), and "gradient_norm", of the head's
            outputs.
        gradient_norms: by part of the detector, see :func:`retina_plugin.engine.parts.part_of`.
        bad_modules: names of modules with non-finite outputs, in the order of the forward pass.
        bad_gradients: names of parameters with non-finite gradients.
    """

    losses: dict[str, float]
    levels: dict[str, dict[str, float]]
    gradient_norms: dict[str, float]
    bad_modules: list[str]
    bad_gradients: list[str]

    def report(self) -> str:
        """Return the facts as a few lines for people."""
        lines = ["losses: " + ", ".join(f"{name} {value:g}" for name, value in self.losses.items())]
        lines += [
            f"{level}: " + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in facts.items())
            for level, facts in self.levels.items()
        ]
        lines.append("gradient norms: " + ", ".join(f"{part} {value:g}" for part, value in self.gradient_norms.items()))
        for what, names in (
            ("modules with non-finite output, in forward order", self.bad_modules),
            ("non-finite gradients", self.bad_gradients),
        ):
            rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"{what}: {', '.join(names[:SHOWN]) or 'none'}{rest}")
        return "\n".join(lines)


def run_step_again(model: Any, batch: list[dict]) -> Step:
    """Run the forward and backward pass of a batch and record facts on the way; leaves gradients, updates no weight.

    Args:
        model: the detector without a wrapper, in training mode. Its head returns L maps of logits and L of deltas.
        batch: dataset dicts with "image" and "instances".
    """
    bad: list[str] = []
    outputs: dict[str, list[Tensor]] = {}
    hooks = []

    def record_non_finite(name: str) -> Callable[[nn.Module, object, object], None]:
        """Return a forward hook that adds the name to ``bad`` if an output is not finite."""

        def hook(module: nn.Module, inputs: object, output: object) -> None:
            """Look at all tensors of an output."""
            tensors = {str(i): x for i, x in enumerate(_tensors(output))}
            if non_finite(tensors):
                bad.append(name)

        return hook

    def keep(module: nn.Module, inputs: object, output: tuple[list[Tensor], list[Tensor]]) -> None:
        """Keep the maps of the head, each (N, C, H, W), and their gradients."""
        for kind, maps in zip(("logit", "delta"), output, strict=True):
            for x in maps:
                if x.requires_grad:
                    x.retain_grad()
            outputs[kind] = maps

    hooks += [
        module.register_forward_hook(record_non_finite(name))
        for name, module in model.named_modules()
        if name and not list(module.children())
    ]
    if hasattr(model, "head_in_features"):  # a RetinaNet, the plugin's or Detectron2's
        hooks.append(model.head.register_forward_hook(keep))
    try:
        model.zero_grad()
        with EventStorage():
            losses = model(batch)
        sum(losses.values()).backward()
    finally:
        for hook in hooks:
            hook.remove()
    levels: dict[str, dict[str, float]] = defaultdict(dict)
    for kind, maps in outputs.items():
        for name, x in zip(model.head_in_features, maps, strict=True):
            levels[name][f"largest_{kind}"] = float(x.detach().abs().max())
            if x.grad is not None:
                norm = float(x.grad.float().norm())
                levels[name]["gradient_norm"] = math.hypot(levels[name].get("gradient_norm", 0.0), norm)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norms: dict[str, float] = defaultdict(float)
    for name, gradient in gradients.items():
        part = part_of(name)
        norms[part] = math.hypot(norms[part], float(gradient.float().norm()))
    return Step(
        {name: float(loss.detach()) for name, loss in losses.items()},
        dict(levels),
        dict(norms),
        list(dict.fromkeys(bad)),
        non_finite(gradients),
    )


def _tensors(output: object) -> list[Tensor]:
    """Return all tensors in nested dicts, lists and tuples."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    return [x for value in output for x in _tensors(value)] if isinstance(output, list | tuple) else []


def write_dump(
    folder: Path,
    *,
    cfg: CfgNode,
    model: nn.Module,
    batch: list[dict],
    losses: dict[str, float],
    norm: float,
    rate: float,
    iteration: int,
    normalizer: Tensor | None = None,
) -> Path:
    """Write a step that diverged to a folder: facts for people, and all that is needed to run it again.

    Args:
        folder: is created; must not exist.
        cfg: config of the run.
        model: the detector without a wrapper, with the weights before the step.
        batch: of this process; images (C, H, W).
        losses: by name.
        norm: of the gradients.
        rate: learning rate.
        iteration: of the step, from 0.
        normalizer: ``loss_normalizer`` before the step, which has updated it; a scalar ().

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    gradients = [p.grad for p in model.parameters()]
    now = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    before = now if normalizer is None else {**now, "loss_normalizer": normalizer}
    plain = [_plain(x) for x in batch]
    torch.save({"model": before, "batch": plain}, folder / TENSORS)
    facts: dict[str, Any] = {
        "iteration": iteration,
        "learning_rate": rate,
        "losses": losses,
        "gradient_norm": norm,
        "images": [
            {"file_name": x.get("file_name"), "image_id": x.get("image_id"), "boxes": len(x.get("instances", ()))}
            for x in batch
        ],
        "boxes": [sample.get("gt_boxes", torch.zeros(0)).tolist() for sample in plain],
        "classes": [sample.get("gt_classes", torch.zeros(0)).tolist() for sample in plain],
        "config": dump_config(cfg),
    }
    _write_facts(folder, facts)  # before the step is run again, which may fail
    try:
        model.load_state_dict(before)
        facts["again"] = dataclasses.asdict(run_step_again(model, batch))
    except (RuntimeError, ValueError, AttributeError, TypeError) as error:
        # A custom model may be built in a way that this does not fit; the rest of the dump is complete.
        facts["again"] = f"could not be run again here: {error}"
    finally:
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        model.load_state_dict(now)
    _write_facts(folder, facts)
    return folder


def _write_facts(folder: Path, facts: dict) -> None:
    (folder / FACTS).write_text(json.dumps(facts, indent=1, default=str), encoding="utf-8")


def _plain(sample: dict) -> dict:
    """Return a training sample as tensors and plain values, which can be read without running code."""
    plain = {key: sample[key] for key in ("image", "ignore_boxes") if isinstance(sample.get(key), torch.Tensor)}
    plain |= {key: sample[key] for key in ("file_name", "height", "width") if isinstance(sample.get(key), str | int)}
    if "instances" in sample:
        instances = sample["instances"].to("cpu")
        plain |= {
            "size": list(instances.image_size),
            "gt_boxes": instances.gt_boxes.tensor,
            "gt_classes": instances.gt_classes,
        }
    return plain


def _sample(plain: dict) -> dict:
    """Return the training sample that :func:`_plain` was given."""
    sample = {key: value for key, value in plain.items() if key not in ("size", "gt_boxes", "gt_classes")}
    if "size" in plain:
        instances = Instances(tuple(plain["size"]))
        instances.gt_boxes, instances.gt_classes = Boxes(plain["gt_boxes"]), plain["gt_classes"]
        sample["instances"] = instances
    return sample


def read_dump(folder: str | os.PathLike) -> dict:
    """Read the facts of a dump.

    Raises:
        FileNotFoundError: the folder holds no dump.
    """
    file = Path(folder) / FACTS
    if not file.is_file() or not (Path(folder) / TENSORS).is_file():
        raise FileNotFoundError(
            f"{os.fspath(folder)} holds no dump: {FACTS} and {TENSORS} are written there when training diverges"
        )
    return json.loads(file.read_text(encoding="utf-8"))


def replay(folder: str | os.PathLike, *, device: str | None = None, precision: str | None = None) -> Step:
    """Run the step of a dump again, with its weights and its batch.

    Args:
        folder: of the dump.
        device: MODEL.DEVICE; None: as in the run, or the CPU if there is no such device.
        precision: SOLVER.AMP.PRECISION; None: as in the run. "fp32" shows whether the precision is the cause.

    Raises:
        FileNotFoundError: the folder holds no dump.
        ValueError: its config cannot be used.
    """
    facts = read_dump(folder)
    opts = [*(["MODEL.DEVICE", device] if device else []), *(["SOLVER.AMP.PRECISION", precision] if precision else [])]
    cfg = config_from_text(facts["config"], opts)
    state = torch.load(Path(folder) / TENSORS, map_location="cpu", weights_only=True)
    model = build_model(cfg).train()
    model.load_state_dict(state["model"])
    torch.manual_seed(0)
    return run_step_again(model, [_sample(plain) for plain in state["batch"]])
