"""One command for a machine with a GPU: ``python tools/gpu_check.py``, or ``make gpu-check``. Everything goes to OUTPUT (output/gpu_check).

parity      Losses, gradients and detections of the plugin and of Detectron2's RetinaNet with the same weights, on the device, in float32 and float64.
variants    A training step of every registered variant: finite, and its losses near those of a CPU.
precision   Losses and detections in fp16 and bf16 against float32.
training    A short training on the device against the same on the CPU, in float32: losses by step, AP.
throughput  Images per second of a training of R-50 at 800 px, and the time that it waits for data.
bench       ``retina bench``.
"""

import argparse
import json
import subprocess
import sys
import time
import traceback
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
SIZE = (256, 320)


def machine_and_driver() -> str:
    """Card, driver and versions."""
    from retina_plugin.hardware import describe_hardware

    lines = [describe_hardware()]
    if torch.cuda.is_available():
        lines.append(
            f"{torch.cuda.get_device_name()}, {torch.cuda.get_device_properties(0).total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        )
        lines.append(
            subprocess.run(
                ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                capture_output=True,
                text=True,
            ).stdout.strip()
        )
    return "; ".join(line for line in lines if line)


def _exact() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def _inputs(num_classes: int = 80) -> list[dict]:
    from retina_plugin.bench.implementations import random_inputs

    return random_inputs(SIZE, batch=2, num_boxes=6, num_classes=num_classes)


def parity(device: torch.device, folder: Path) -> dict:
    """Largest relative differences to Detectron2's model, by precision."""
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from retina_plugin.bench.implementations import calibrate, detectron2_cfg, plugin_cfg

    _exact()
    found, inputs = {}, _inputs()
    theirs = build_model(detectron2_cfg(device="cpu"))
    state = calibrate(theirs, inputs)
    for dtype in (torch.float32, torch.float64):
        models = []
        for cfg in (detectron2_cfg(device=device.type), plugin_cfg("SOLVER.AMP.ENABLED", False, device=device.type)):
            model = build_model(cfg)
            model.load_state_dict(state, strict=False)
            models.append(model.to(device, dtype).train())
        with EventStorage():
            losses = [model(inputs) for model in models]
        for one in losses:
            sum(one.values()).backward()
        gradients = [
            dict((name, p.grad) for name, p in model.named_parameters() if p.grad is not None) for model in models
        ]
        common = gradients[0].keys() & gradients[1].keys()
        name = str(dtype).removeprefix("torch.")
        found[f"{name}, losses"] = max(
            abs(losses[0][key].item() - losses[1][key].item()) / abs(losses[0][key].item()) for key in losses[0]
        )
        found[f"{name}, gradients"] = max(
            ((gradients[0][key] - gradients[1][key]).norm() / gradients[0][key].norm().clamp(min=1e-12)).item()
            for key in common
        )
        if dtype != torch.float32:  # Detectron2's NMS takes float32 only
            continue
        with torch.no_grad():
            detections = [model.eval()(inputs)[0]["instances"].scores for model in models]
        found[f"{name}, detections"] = f"{len(detections[0])} and {len(detections[1])}"
        if len(detections[0]) == len(detections[1]) and len(detections[0]):
            found[f"{name}, scores"] = (detections[0] - detections[1]).abs().max().item()
    found["ok"] = (
        found["float32, losses"] < 1e-4 and found["float64, losses"] < 1e-6 and found["float64, gradients"] < 1e-4
    )
    return found


def variants(device: torch.device, folder: Path) -> dict:
    """Loss of a step on the device against the CPU's, for every registered variant."""
    from detectron2.modeling import build_model

    from retina_plugin import load_config
    from retina_plugin.modeling import (
        ASSIGNER_REGISTRY,
        BOX_LOSS_REGISTRY,
        CLS_LOSS_REGISTRY,
        HEAD_REGISTRY,
        NECK_REGISTRY,
        TOP_BLOCK_REGISTRY,
    )

    _exact()
    found, worst = {}, 0.0
    common = [
        "MODEL.BACKBONE.FREEZE_AT",
        0,
        "MODEL.RESNETS.DEPTH",
        18,
        "MODEL.RESNETS.NORM",
        "BN",
        "MODEL.FPN.NORM",
        "BN",
        "MODEL.FPN.OUT_CHANNELS",
        32,
        "MODEL.RETINANET.NUM_CLASSES",
        3,
        "SOLVER.AMP.ENABLED",
        False,
    ]
    for registry in (
        ASSIGNER_REGISTRY,
        BOX_LOSS_REGISTRY,
        CLS_LOSS_REGISTRY,
        HEAD_REGISTRY,
        NECK_REGISTRY,
        TOP_BLOCK_REGISTRY,
    ):
        for name, _ in registry:
            levels = ["MODEL.RETINANET.LEVELS", [3, 4, 5]] if name == "none" else []
            opts = [*common, *levels, registry.key, name]
            torch.manual_seed(0)
            on_cpu = build_model(
                load_config(ROOT / "configs/Base-RetinaNet.yaml", ["MODEL.DEVICE", "cpu", *opts])
            ).train()
            there = build_model(
                load_config(ROOT / "configs/Base-RetinaNet.yaml", ["MODEL.DEVICE", device.type, *opts])
            ).train()
            there.load_state_dict(on_cpu.state_dict())
            values = [{key: loss.item() for key, loss in model(_inputs(3)).items()} for model in (on_cpu, there)]
            difference = max(abs(values[0][key] - values[1][key]) / max(1e-6, abs(values[0][key])) for key in values[0])
            found[f"{registry.key} {name}"], worst = (
                difference,
                max(worst, difference if difference == difference else float("inf")),
            )
    return {"variants": len(found), "largest relative difference of a loss": worst, **found, "ok": worst < 1e-3}


def precision(device: torch.device, folder: Path) -> dict:
    """Losses in lower precision against float32, relative; what the device does not have is left out."""
    from detectron2.modeling import build_model

    from retina_plugin.bench.implementations import calibrate, plugin_cfg

    inputs, found = _inputs(), {}
    reference = build_model(plugin_cfg("SOLVER.AMP.ENABLED", False, device=device.type)).train()
    state = calibrate(build_model(plugin_cfg("SOLVER.AMP.ENABLED", False, device="cpu")), inputs)
    reference.load_state_dict(state, strict=False)
    want = {key: loss.item() for key, loss in reference(inputs).items()}
    for kind in ("bf16", *(["fp16"] if device.type == "cuda" else [])):
        model = build_model(plugin_cfg("SOLVER.AMP.PRECISION", kind, device=device.type)).train()
        model.load_state_dict(reference.state_dict())
        got = {key: loss.item() for key, loss in model(inputs).items()}
        found[kind] = max(abs(got[key] - want[key]) / abs(want[key]) for key in want)
    return {**found, "ok": all(value < 0.25 for value in found.values())}  # random weights: 0.09 on a CPU in bf16


def _train(device: str, output: Path, *, iterations: int) -> tuple[list[float], float]:
    opts = [
        "MODEL.DEVICE",
        device,
        "SOLVER.AMP.ENABLED",
        False,
        "MODEL.FPN.NORM",
        "GN",
        "MODEL.RETINANET.NORM",
        "GN",
        "INPUT.MIN_SIZE_TRAIN",
        "(128,)",
        "INPUT.MIN_SIZE_TEST",
        128,
        "SOLVER.MAX_ITER",
        iterations,
        "SOLVER.WARMUP_ITERS",
        max(1, iterations // 5),
        "OUTPUT_DIR",
        output,
    ]
    command = [
        sys.executable,
        "train_net.py",
        "--config-file",
        "configs/digits/quickstart.yaml",
        "--overwrite",
        *map(str, opts),
    ]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stdout[-1500:] + result.stderr[-1500:])
    lines = [json.loads(line) for line in (output / "metrics.json").read_text(encoding="utf-8").splitlines()]
    return [line["total_loss"] for line in lines if "total_loss" in line], json.loads(
        (output / "results.json").read_text(encoding="utf-8")
    )["bbox"]["AP"]


def training(device: torch.device, folder: Path, *, iterations: int = 400) -> dict:
    """The digits, a short schedule, here and on the CPU."""
    ours, ap = _train(device.type, folder / "digits_device", iterations=iterations)
    theirs, cpu_ap = _train("cpu", folder / "digits_cpu", iterations=iterations)
    first = abs(ours[0] - theirs[0]) / theirs[0]
    return {
        "first logged loss, relative difference": first,
        "last losses": [ours[-1], theirs[-1]],
        "AP on the device": ap,
        "AP on the CPU": cpu_ap,
        "ok": first < 1e-2 and abs(ap - cpu_ap) < 6,
    }


def throughput(device: torch.device, folder: Path, *, size: int = 800, steps: int = 50) -> dict:
    """Images per second of training steps of R-50 on random images that are there already."""
    from detectron2.modeling import build_model

    from retina_plugin.bench.implementations import plugin_cfg, random_inputs

    found = {}
    for batch in (2, 8, 16):
        model = build_model(plugin_cfg(device=device.type)).train()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5, momentum=0.9)
        inputs = random_inputs((size, size * 4 // 3), batch=batch, num_boxes=7)
        for step in range(steps + 5):
            if step == 5:
                torch.cuda.synchronize() if device.type == "cuda" else None
                begin = time.perf_counter()
            optimizer.zero_grad()
            sum(model(inputs).values()).backward()
            optimizer.step()
        torch.cuda.synchronize() if device.type == "cuda" else None
        found[f"images per second, batch {batch}"] = round(batch * steps / (time.perf_counter() - begin), 1)
        if device.type == "cuda":
            found[f"peak memory, MiB, batch {batch}"] = round(torch.cuda.max_memory_allocated() / 2**20)
            torch.cuda.reset_peak_memory_stats()
        if device.type == "cpu":
            break
    return {**found, "ok": True}


def bench(device: torch.device, folder: Path) -> dict:
    """``retina bench`` with its table beside this one."""
    result = subprocess.run(
        [sys.executable, "-m", "retina_plugin", "bench", "--output", str(folder / "bench")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return {
        "exit code": result.returncode,
        "table": "bench/bench.md",
        **({"trouble": result.stderr[-1500:]} if result.returncode else {}),
        "ok": result.returncode == 0,
    }


PARTS = {
    "parity": parity,
    "variants": variants,
    "precision": precision,
    "training": training,
    "throughput": throughput,
    "bench": bench,
}


def main() -> int:
    """Run the parts and write ``gpu_check.json`` and ``gpu_check.md``; 1 if one is not ok, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", default="cuda", help="cpu tries the command itself")
    parser.add_argument("--output", default="output/gpu_check")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        print("error: there is no GPU here that torch can use; nothing was run", file=sys.stderr)
        return 2
    import retina_plugin  # noqa: F401  its registries

    folder, device, found = Path(args.output).resolve(), torch.device(args.device), {}
    folder.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    for part in args.parts or PARTS:
        begin = time.perf_counter()
        try:
            found[part] = PARTS[part](device, folder)
        except Exception:  # noqa: BLE001  the other parts are wanted all the same
            found[part] = {"ok": False, "trouble": traceback.format_exc()[-2000:]}
        found[part]["minutes"] = round((time.perf_counter() - begin) / 60, 1)
        print(f"{part}: {'ok' if found[part]['ok'] else 'NOT OK'}\n{json.dumps(found[part], indent=1)}", flush=True)
        (folder / "gpu_check.json").write_text(
            json.dumps({"machine": machine_and_driver(), "commit": commit, **found}, indent=1), encoding="utf-8"
        )
    rows = [f"| {part} | {name} | {value} |" for part, values in found.items() for name, value in values.items()]
    (folder / "gpu_check.md").write_text(
        "\n".join(
            [f"{machine_and_driver()}; commit {commit}", "", "| part | what | figure |", "|---|---|---|", *rows, ""]
        ),
        encoding="utf-8",
    )
    return int(not all(values["ok"] for values in found.values()))


if __name__ == "__main__":
    sys.exit(main())
