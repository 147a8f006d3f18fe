"""What a step that diverged is written down as, and the same step run again."""

import dataclasses
import json
import math
import os
from collections import defaultdict
from pathlib import Path

import torch
from torch import nn

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from retina_plugin.config import config_from_text, dump_config
from retina_plugin.engine.checkpoint import part_of
from retina_plugin.engine.finite import non_finite

FACTS, TENSORS = "dump.json", "step.pth"
"""Files of a dump: for people, and what the step is run again from."""

SHOWN = 5
"""Names in a line of the report."""


@dataclasses.dataclass
class Step:
    """What a forward and a backward pass gave.

    Attributes:
        losses: by name.
        levels: by level of the pyramid: "largest_logit", "largest_delta" (magnitudes) and "gradient_norm" of the head's outputs there.
        gradient_norms: of backbone, neck and head.
        bad_modules: those with outputs that are not finite, in the order of the forward pass.
        bad_gradients: parameters whose gradients are not finite.
    """

    losses: dict[str, float]
    levels: dict[str, dict[str, float]]
    gradient_norms: dict[str, float]
    bad_modules: list[str]
    bad_gradients: list[str]

    def report(self) -> str:
        """The facts, a few lines for people."""
        lines = ["losses: " + ", ".join(f"{name} {value:g}" for name, value in self.losses.items())]
        lines += [
            f"{level}: " + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in facts.items())
            for level, facts in self.levels.items()
        ]
        lines.append(
            "norms of the gradients: " + ", ".join(f"{part} {value:g}" for part, value in self.gradient_norms.items())
        )
        for what, names in (
            ("modules whose output is not finite, the first first", self.bad_modules),
            ("gradients that are not finite", self.bad_gradients),
        ):
            rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"{what}: {', '.join(names[:SHOWN]) or 'none'}{rest}")
        return "\n".join(lines)


def run_step_again(model: nn.Module, batch: list[dict]) -> Step:
    """Forward and backward pass of a batch with a look at everything in between; leaves gradients, and moves no weight.

    Args:
        model: the detector, not wrapped, in training mode; its head returns L logits and L deltas.
        batch: dataset dicts with "image" and "instances".
    """
    bad, outputs, hooks = [], {}, []

    def look(name: str):
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            tensors = {str(i): x for i, x in enumerate(_tensors(output))}
            if non_finite(tensors):
                bad.append(name)

        return hook

    def keep(module: nn.Module, inputs: object, output: tuple[list, list]) -> None:
        for kind, maps in zip(("logit", "delta"), output, strict=True):
            for x in maps:
                if x.requires_grad:
                    x.retain_grad()
            outputs[kind] = maps

    hooks += [
        module.register_forward_hook(look(name))
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
    levels = defaultdict(dict)
    for kind, maps in outputs.items():
        for name, x in zip(model.head_in_features, maps, strict=True):
            levels[name][f"largest_{kind}"] = float(x.detach().abs().max())
            if x.grad is not None:
                levels[name]["gradient_norm"] = math.hypot(
                    levels[name].get("gradient_norm", 0.0), float(x.grad.float().norm())
                )
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


def _tensors(output: object) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [x for value in values for x in _tensors(value)]


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
    normalizer: torch.Tensor | None = None,
) -> Path:
    """Write a step that diverged to a folder of its own: facts for people, and all that running it again needs.

    Args:
        folder: made, with a number behind its name if it is there.
        cfg: of the run.
        model: the detector, not wrapped, with the weights before the step.
        batch: of this process.
        losses, norm, rate: what was met, and the learning rate.
        iteration: of the step, from 0.
        normalizer: ``loss_normalizer`` of before the step, which moved it.
    """
    folder.mkdir(parents=True)
    gradients = [p.grad for p in model.parameters()]
    now = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    before = now if normalizer is None else {**now, "loss_normalizer": normalizer}
    state = {"model": before, "batch": [_plain(x) for x in batch]}
    torch.save(state, folder / TENSORS)
    facts = {
        "iteration": iteration,
        "learning_rate": rate,
        "losses": losses,
        "gradient_norm": norm,
        "images": [
            {"file_name": x.get("file_name"), "image_id": x.get("image_id"), "boxes": len(x.get("instances", ()))}
            for x in batch
        ],
        "boxes": [plain.get("gt_boxes", torch.zeros(0)).tolist() for plain in state["batch"]],
        "classes": [plain.get("gt_classes", torch.zeros(0)).tolist() for plain in state["batch"]],
        "config": dump_config(cfg),
    }
    _write_facts(folder, facts)  # before anything is run again, which may fail
    try:
        model.load_state_dict(before)
        facts["again"] = dataclasses.asdict(run_step_again(model, batch))
    except (
        RuntimeError,
        ValueError,
        AttributeError,
        TypeError,
    ) as error:  # a model of another build; the rest of the dump is there
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
    """A training sample as tensors and plain values, which are read without running code."""
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
    sample = {key: value for key, value in plain.items() if key not in ("size", "gt_boxes", "gt_classes")}
    if "size" in plain:
        instances = Instances(tuple(plain["size"]))
        instances.gt_boxes, instances.gt_classes = Boxes(plain["gt_boxes"]), plain["gt_classes"]
        sample["instances"] = instances
    return sample


def read_dump(folder: str | os.PathLike) -> dict:
    """The facts of a dump.

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
        device: MODEL.DEVICE; None: as in the run, or the CPU where there is no such device.
        precision: SOLVER.AMP.PRECISION; None: as in the run. "fp32" shows whether the arithmetic is to blame.

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
