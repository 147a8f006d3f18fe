"""Check everything on a machine with a GPU: ``python tools/gpu_check.py [PART ...]``, or ``make gpu-check``.

Results go to OUTPUT (output/gpu_check). The parts:

parity      Losses, gradients and detections of the plugin and of Detectron2's RetinaNet with the same weights, on the
            device, in float32 and float64.
variants    A training step of every registered variant: finite, and losses close to those on a CPU.
precision   Losses in fp16 and bf16 against float32.
training    A short training on the device against the same one on the CPU, in float32: first loss, AP.
throughput  Images per second of training steps of R-50 at 800 px, without data loading.
bench       ``retina bench``.
"""

import argparse
import json
import math
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
SIZE = (256, 320)
"""Height and width of the random images of the parts parity, variants and precision."""

BASE = ROOT / "configs/Base-RetinaNet.yaml"


def pairs(options: dict[str, object]) -> list[object]:
    """Return options as KEY, VALUE, KEY, VALUE, ..."""
    return [word for pair in options.items() for word in pair]


def machine_and_driver() -> str:
    """Return the processor or card, the driver and the versions, in one line."""
    from retina_plugin.hardware import describe_hardware

    lines = [describe_hardware()]
    if torch.cuda.is_available():
        gib = torch.cuda.get_device_properties(0).total_memory / 2**30
        versions = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        lines.append(f"{torch.cuda.get_device_name()}, {gib:.0f} GiB, {versions}")
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        lines.append(subprocess.run(query, capture_output=True, text=True).stdout.strip())
    return "; ".join(line for line in lines if line)


def _use_exact_arithmetic() -> None:
    """Switch off TF32 and nondeterministic cuDNN algorithms."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def _inputs(num_classes: int = 80) -> list[dict]:
    """Return two random images with 6 boxes each."""
    from retina_plugin.bench.implementations import random_inputs

    return random_inputs(SIZE, batch=2, num_boxes=6, num_classes=num_classes)


def _largest_difference(losses: dict[str, float], reference: dict[str, float]) -> float:
    """Return the largest difference of a loss relative to the reference; infinite if one is not a number."""
    differences = [abs(losses[key] - value) / max(1e-6, abs(value)) for key, value in reference.items()]
    return max(float("inf") if math.isnan(difference) else difference for difference in differences)


def parity(device: torch.device, folder: Path) -> dict:
    """Return the largest relative differences to Detectron2's model, by precision."""
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from retina_plugin.bench.implementations import calibrate, detectron2_cfg, plugin_cfg

    _use_exact_arithmetic()
    found: dict[str, Any] = {}
    inputs = _inputs()
    state = calibrate(build_model(detectron2_cfg(device="cpu")), inputs)
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        models, losses, gradients = [], [], []
        for cfg in (detectron2_cfg(device=device.type), plugin_cfg("SOLVER.AMP.ENABLED", False, device=device.type)):
            model = build_model(cfg)
            model.load_state_dict(state, strict=False)
            models.append(model.to(device, dtype).train())
            with EventStorage():
                loss = model(inputs)
            sum(loss.values()).backward()
            losses.append({key: value.item() for key, value in loss.items()})
            gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
        theirs, ours = gradients
        found[f"{name}, losses"] = _largest_difference(losses[1], losses[0])
        found[f"{name}, gradients"] = max(
            ((theirs[key] - ours[key]).norm() / theirs[key].norm().clamp(min=1e-12)).item()
            for key in theirs.keys() & ours.keys()
        )
        if dtype != torch.float32:  # Detectron2's NMS takes float32 only
            continue
        with torch.no_grad():
            scores = [model.eval()(inputs)[0]["instances"].scores for model in models]
        found[f"{name}, detections"] = f"{len(scores[0])} and {len(scores[1])}"
        if len(scores[0]) == len(scores[1]) and len(scores[0]):
            found[f"{name}, scores"] = (scores[0] - scores[1]).abs().max().item()
    close = found["float32, losses"] < 1e-4 and found["float64, losses"] < 1e-6
    return {**found, "ok": close and found["float64, gradients"] < 1e-4}


def variants(device: torch.device, folder: Path) -> dict:
    """Return the relative difference between the losses on the device and on the CPU, for every registered variant."""
    from detectron2.modeling import build_model

    from retina_plugin import load_config, modeling

    _use_exact_arithmetic()
    small = {
        "MODEL.BACKBONE.FREEZE_AT": 0,
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.NORM": "BN",
        "MODEL.FPN.NORM": "BN",
        "MODEL.FPN.OUT_CHANNELS": 32,
        "MODEL.RETINANET.NUM_CLASSES": 3,
        "SOLVER.AMP.ENABLED": False,
    }
    registries = (
        modeling.ASSIGNER_REGISTRY,
        modeling.BOX_LOSS_REGISTRY,
        modeling.CLS_LOSS_REGISTRY,
        modeling.HEAD_REGISTRY,
        modeling.NECK_REGISTRY,
        modeling.TOP_BLOCK_REGISTRY,
    )
    found = {}
    for registry, name in [(slot, name) for slot in registries for name, _ in slot]:
        options = {**small, registry.key: name}
        if name == "none":  # a top block without levels of its own
            options["MODEL.RETINANET.LEVELS"] = [3, 4, 5]
        torch.manual_seed(0)
        on_cpu, on_device = (
            build_model(load_config(BASE, pairs({"MODEL.DEVICE": kind, **options}))).train()
            for kind in ("cpu", device.type)
        )
        on_device.load_state_dict(on_cpu.state_dict())
        expected, got = ({key: loss.item() for key, loss in model(_inputs(3)).items()} for model in (on_cpu, on_device))
        found[f"{registry.key} {name}"] = _largest_difference(got, expected)
    worst = max(found.values())
    return {"variants": len(found), "largest relative difference of a loss": worst, **found, "ok": worst < 1e-3}


def precision(device: torch.device, folder: Path) -> dict:
    """Return the relative difference of the losses in lower precisions to float32; fp16 only on a GPU."""
    from detectron2.modeling import build_model

    from retina_plugin.bench.implementations import calibrate, plugin_cfg

    inputs, found = _inputs(), {}
    reference = build_model(plugin_cfg("SOLVER.AMP.ENABLED", False, device=device.type)).train()
    state = calibrate(build_model(plugin_cfg("SOLVER.AMP.ENABLED", False, device="cpu")), inputs)
    reference.load_state_dict(state, strict=False)
    expected = {key: loss.item() for key, loss in reference(inputs).items()}
    for kind in ("bf16", *(["fp16"] if device.type == "cuda" else [])):
        model = build_model(plugin_cfg("SOLVER.AMP.PRECISION", kind, device=device.type)).train()
        model.load_state_dict(reference.state_dict())
        got = {key: loss.item() for key, loss in model(inputs).items()}
        found[kind] = _largest_difference(got, expected)
    return {**found, "ok": all(value < 0.25 for value in found.values())}  # random weights: 0.09 on a CPU in bf16


def _train(device: str, output: Path, *, iterations: int) -> tuple[list[float], float]:
    """Train the digits in a process of its own; return the logged losses and the AP."""
    options = {
        "MODEL.DEVICE": device,
        "SOLVER.AMP.ENABLED": False,
        "MODEL.FPN.NORM": "GN",
        "MODEL.RETINANET.NORM": "GN",
        "INPUT.MIN_SIZE_TRAIN": "(128,)",
        "INPUT.MIN_SIZE_TEST": 128,
        "SOLVER.MAX_ITER": iterations,
        "SOLVER.WARMUP_ITERS": max(1, iterations // 5),
        "OUTPUT_DIR": output,
    }
    command = [sys.executable, "train_net.py", "--config-file", "configs/digits/quickstart.yaml", "--overwrite"]
    result = subprocess.run([*command, *map(str, pairs(options))], cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(result.stdout[-1500:] + result.stderr[-1500:])
    lines = [json.loads(line) for line in (output / "metrics.json").read_text(encoding="utf-8").splitlines()]
    results = json.loads((output / "results.json").read_text(encoding="utf-8"))
    return [line["total_loss"] for line in lines if "total_loss" in line], results["bbox"]["AP"]


def training(device: torch.device, folder: Path, *, iterations: int = 400) -> dict:
    """Train the digits with a short schedule on the device and on the CPU, and compare them."""
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
    """Measure the images per second of training steps of R-50, on random images that are already on the host."""
    from detectron2.modeling import build_model

    from retina_plugin.bench.implementations import plugin_cfg, random_inputs

    found = {}
    for batch in (2, 8, 16):
        model = build_model(plugin_cfg(device=device.type)).train()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5, momentum=0.9)
        inputs = random_inputs((size, size * 4 // 3), batch=batch, num_boxes=7)
        for step in range(steps + 5):
            if step == 5:
                _synchronize(device)
                begin = time.perf_counter()
            optimizer.zero_grad()
            sum(model(inputs).values()).backward()
            optimizer.step()
        _synchronize(device)
        found[f"images per second, batch {batch}"] = round(batch * steps / (time.perf_counter() - begin), 1)
        if device.type != "cuda":  # on a CPU the smallest batch takes long enough
            break
        found[f"peak memory, MiB, batch {batch}"] = round(torch.cuda.max_memory_allocated() / 2**20)
        torch.cuda.reset_peak_memory_stats()
    return {**found, "ok": True}


def _synchronize(device: torch.device) -> None:
    """Wait for the kernels of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def bench(device: torch.device, folder: Path) -> dict:
    """Run ``retina bench``; its table goes into the folder."""
    command = [sys.executable, "-m", "retina_plugin", "bench", "--output", str(folder / "bench")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    trouble = {"trouble": result.stderr[-1500:]} if result.returncode else {}
    return {
        "exit code": result.returncode,
        "table": "bench/bench.md",
        **trouble,
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
    """Run the parts, write ``gpu_check.json`` and ``gpu_check.md``; return 1 if a part is not ok, 2 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try out the command itself (default cuda)")
    parser.add_argument("--output", default="output/gpu_check")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    if args.device == "cuda" and not torch.cuda.is_available():
        print("error: torch finds no GPU here that it can use; nothing was run", file=sys.stderr)
        return 2
    import retina_plugin  # noqa: F401  (fills the registries)

    folder, device, found = Path(args.output).resolve(), torch.device(args.device), {}
    folder.mkdir(parents=True, exist_ok=True)
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    for part in args.parts or PARTS:
        begin = time.perf_counter()
        try:
            found[part] = PARTS[part](device, folder)
        except Exception:  # noqa: BLE001  (the other parts must still run)
            found[part] = {"ok": False, "trouble": traceback.format_exc()[-2000:]}
        found[part]["minutes"] = round((time.perf_counter() - begin) / 60, 1)
        print(f"{part}: {'ok' if found[part]['ok'] else 'NOT OK'}\n{json.dumps(found[part], indent=1)}", flush=True)
        written = {"machine": machine_and_driver(), "commit": commit, **found}
        (folder / "gpu_check.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    rows = [f"| {part} | {name} | {value} |" for part, values in found.items() for name, value in values.items()]
    head = [f"{machine_and_driver()}; commit {commit}", "", "| part | what | figure |", "|---|---|---|"]
    (folder / "gpu_check.md").write_text("\n".join([*head, *rows, ""]), encoding="utf-8")
    return int(not all(values["ok"] for values in found.values()))


if __name__ == "__main__":
    sys.exit(main())
