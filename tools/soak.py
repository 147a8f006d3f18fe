"""Run the long tests: ``python tools/soak.py [PART ...]``, or ``make soak``.

Writes OUTPUT/soak.json, soak.md and memory.png. The parts:

fuzz          100,000 modified files of every kind are read or refused (tests/fuzz/soak.py).
kills         A training that is killed with SIGKILL 20 times at random moments ends with the weights of an
              uninterrupted one.
processes     Two processes against one with the same global batch: losses over 50 steps, AP at the end.
memory        Memory of the training loader and of the evaluator over 10,000 batches.
evaluation    100,000 images with 2,000,000 detections are scored: time and memory.
annotations   A dataset of 1,000,000 annotations: time and memory until the first step, and of 20 steps.
"""

import argparse
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DIGITS = "configs/digits/quickstart.yaml"


def pairs(options: dict[str, object]) -> list[object]:
    """Return options as KEY, VALUE, KEY, VALUE, ..."""
    return [word for pair in options.items() for word in pair]


SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.FPN.OUT_CHANNELS": 32,
    "MODEL.RETINANET.NUM_CONVS": 1,
    "INPUT.MIN_SIZE_TRAIN": "(96,)",
    "INPUT.MIN_SIZE_TEST": 96,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.REFERENCE_BATCH_SIZE": 0,
    "DATALOADER.NUM_WORKERS": 1,
    "SOLVER.AMP.ENABLED": False,
    "TEST.REPORT": False,
}
"""Options that make the quickstart small."""


def call(*words: object, wait: bool = True) -> subprocess.Popen:
    """Start ``train_net.py`` with these words; unless ``wait`` is False, wait until it has succeeded."""
    command = [sys.executable, "train_net.py", *map(str, words)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if wait:
        _finish(process)
    return process


def _finish(process: subprocess.Popen) -> None:
    """Wait for a process; raise RuntimeError with the end of its output if it fails."""
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(out[-3000:])


def fuzz(folder: Path) -> dict:
    """Run the fuzzer, see :mod:`tests.fuzz.soak`."""
    command = [sys.executable, "tests/fuzz/soak.py"]
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    (folder / "fuzz.txt").write_text(result.stdout, encoding="utf-8")
    lines = [line for line in result.stdout.splitlines() if "inputs," in line or "folder " in line]
    return {"exit code": result.returncode, "last lines": lines[-2:]}


def kills(folder: Path, *, count: int = 20, iterations: int = 600) -> dict:
    """Kill a training repeatedly and compare its final weights with those of an uninterrupted one.

    The moments are drawn from the seconds that one start takes, a third of them while a checkpoint is written.
    """
    import torch

    draw, work = random.Random(0), folder / "kills"
    shutil.rmtree(work, ignore_errors=True)
    schedule = {"SOLVER.MAX_ITER": iterations, "SOLVER.WARMUP_ITERS": 20, "SOLVER.CHECKPOINT_PERIOD": 10}
    options = pairs({**SMALL, "DATASETS.TEST": "()", **schedule})
    begin = time.perf_counter()
    call("--config-file", DIGITS, *options, "OUTPUT_DIR", work / "whole")
    whole = time.perf_counter() - begin
    done, in_write, run = 0, 0, work / "killed"
    while True:
        process = call("--config-file", DIGITS, "--resume", *options, "OUTPUT_DIR", run, wait=False)
        if done < count:
            moment, at_write = time.perf_counter() + draw.uniform(5, 5 + whole / 6), draw.random() < 1 / 3
            while process.poll() is None and time.perf_counter() < moment:
                if at_write and any(run.glob("*.unfinished.pth")):
                    time.sleep(draw.uniform(0, 0.01))
                    in_write += 1
                    break
                time.sleep(0.0005)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
                done += 1
                continue
        _finish(process)
        if done >= count or (run / "model_final.pth").exists():
            break
    a, b = (torch.load(work / name / "model_final.pth", weights_only=True)["model"] for name in ("whole", "killed"))
    return {
        "kills": done,
        "while a checkpoint was written": in_write,
        "weights equal bit by bit": all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys(),
    }


def processes(folder: Path, *, iterations: int = 400) -> dict:
    """Compare one process with two: losses of 50 steps (tests/engine/two_processes.py) and the AP of a training."""
    work = folder / "processes"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29719"]
    options = {
        **SMALL,
        "SOLVER.IMS_PER_BATCH": 8,
        "INPUT.MIN_SIZE_TRAIN": "(128,)",
        "INPUT.MIN_SIZE_TEST": 128,
        "MODEL.FPN.NORM": "GN",
        "MODEL.RETINANET.NORM": "GN",
        "SOLVER.MAX_ITER": iterations,
        "SOLVER.WARMUP_ITERS": 50,
    }
    losses, aps = [], []
    for name, launcher in (("one", []), ("two", torchrun)):
        output = work / f"{name}_trained"
        _run_quietly([*launcher, "tests/engine/two_processes.py", work / f"{name}.json", "50"])
        steps = json.loads((work / f"{name}.json").read_text(encoding="utf-8"))["losses"]
        losses.append([loss for step in steps for loss in step.values()])
        training = ["train_net.py", "--config-file", DIGITS, *pairs({**options, "OUTPUT_DIR": output})]
        _run_quietly([*launcher, *training])
        aps.append(json.loads((output / "results.json").read_text(encoding="utf-8"))["bbox"]["AP"])
    return {
        "largest difference of a loss in 50 steps, relative": max(abs(a - b) / a for a, b in zip(*losses, strict=True)),
        "AP on one process": aps[0],
        "AP on two": aps[1],
    }


def _run_quietly(words: list) -> None:
    """Run Python with these words on one thread, without its output."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command, nowhere = [sys.executable, *map(str, words)], subprocess.DEVNULL
    subprocess.run(command, cwd=ROOT, check=True, env=env, stdout=nowhere, stderr=nowhere)


def _status(file: Path) -> dict[str, str]:
    """Return the fields of a /proc/PID/status file; none if the process has just ended."""
    try:
        return dict(line.split(":", 1) for line in file.read_text(encoding="utf-8").splitlines())
    except OSError:
        return {}


def _resident() -> float:
    """Return the resident memory of this process and its descendants, MiB; Linux only."""
    fields = {int(file.parent.name): _status(file) for file in Path("/proc").glob("[0-9]*/status")}
    mine = {os.getpid()}
    while more := {pid for pid, field in fields.items() if int(field.get("PPid", -1)) in mine} - mine:
        mine |= more
    return sum(int(fields[pid].get("VmRSS", "0 kB").split()[0]) for pid in mine) / 1024


def memory(folder: Path, *, batches: int = 10_000) -> dict:
    """Measure and plot the memory of the training loader with two processes and of the evaluator."""
    import matplotlib.pyplot as plt
    import torch

    from detectron2.structures import Boxes, Instances

    from retina_plugin import load_config
    from retina_plugin.engine import RetinaTrainer

    cfg = load_config(ROOT / DIGITS, pairs({**SMALL, "DATALOADER.NUM_WORKERS": 2}))
    seen = {"training loader": [_resident()], "evaluator": []}
    for i, _ in zip(range(1, batches + 1), RetinaTrainer.build_train_loader(cfg), strict=False):
        if i % 100 == 0:
            seen["training loader"].append(_resident())
    evaluator = RetinaTrainer.build_evaluator(cfg, "digits_val")
    records, generator = list(evaluator.truth.coco["images"]), torch.Generator().manual_seed(0)
    seen["evaluator"].append(_resident())
    for i in range(1, batches + 1):
        image = records[i % len(records)]
        boxes = torch.rand(100, 4, generator=generator) * 50
        boxes[:, 2:] += boxes[:, :2] + 1
        found = Instances(
            (image["height"], image["width"]),
            pred_boxes=Boxes(boxes),
            scores=torch.rand(100, generator=generator),
            pred_classes=torch.randint(0, 10, (100,), generator=generator),
        )
        evaluator.process([image], [{"instances": found}])
        if i % 100 == 0:
            seen["evaluator"].append(_resident())
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for name, values in seen.items():
        axes.plot(100 * np.arange(len(values)), values, label=name)
    axes.set_xlabel("batches")
    axes.set_ylabel("resident memory, MiB")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(folder / "memory.png", dpi=120)
    tenth = max(1, len(seen["training loader"]) // 10)
    return {
        f"{name}, MiB after a tenth of {batches} batches, at the end": [round(values[tenth]), round(values[-1])]
        for name, values in seen.items()
    } | {"the evaluator keeps": "100 detections of 28 bytes for each image"}


def _peak() -> float:
    """Return the peak memory of this process, MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def evaluation(folder: Path, *, images: int = 100_000, per_image: int = 20) -> dict:
    """Score random detections with hotcoco; measure the seconds of collecting, writing and scoring them."""
    import torch

    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.structures import Boxes, BoxMode, Instances

    from retina_plugin.evaluation import HotCocoEvaluator

    rng = np.random.default_rng(0)
    boxes = rng.uniform(0, 300, (images, 7, 4)).round(2)
    boxes[..., 2:] += boxes[..., :2] + 2
    records = [
        {
            "file_name": f"{i}.jpg",
            "height": 640,
            "width": 640,
            "image_id": i,
            "annotations": [
                {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": (i + j) % 80, "iscrowd": 0}
                for j, box in enumerate(mine)
            ],
        }
        for i, mine in enumerate(boxes.tolist())
    ]
    DatasetCatalog.register("soak", lambda: records)
    MetadataCatalog.get("soak").set(thing_classes=[str(k) for k in range(80)])
    import retina_plugin.evaluation.ground_truth as ground_truth

    ground_truth.result_of = functools.partial(ground_truth.result_of, look=False)  # there are no files
    evaluator, before = HotCocoEvaluator("soak", output_dir=str(folder / "evaluation")), _peak()
    begin = time.perf_counter()
    for i, record in enumerate(records):
        mine = torch.tensor(boxes[i][rng.integers(0, 7, per_image)], dtype=torch.float32) + torch.randn(per_image, 1)
        classes = torch.as_tensor((i + rng.integers(0, 7, per_image)) % 80)
        found = Instances((640, 640), pred_boxes=Boxes(mine), scores=torch.rand(per_image), pred_classes=classes)
        evaluator.process([record], [{"instances": found}])
    taken = time.perf_counter()
    results = evaluator.evaluate()
    assert results is not None  # only a process that is not the main one gets None
    return {
        "detections": images * per_image,
        "seconds to take them": round(taken - begin, 1),
        "seconds to write and score them": round(time.perf_counter() - taken, 1),
        "peak memory above the ground truth, MiB": round(_peak() - before),
        "file, MiB": round((folder / "evaluation/coco_instances_results.json").stat().st_size / 2**20),
        "AP": round(results["bbox"]["AP"], 2),
    }


def annotations(folder: Path, *, boxes: int = 1_000_000) -> dict:
    """Start from a JSON of a million boxes on 118,287 images and train 20 steps."""
    from retina_plugin import load_config
    from retina_plugin.bench.dataset_start import NUM_IMAGES, card_of, generated_coco
    from retina_plugin.data.catalog import register_card
    from retina_plugin.engine import RetinaTrainer

    data = generated_coco(NUM_IMAGES, boxes)
    card = card_of(data)
    card.file.write_text(card.text(), encoding="utf-8")
    register_card(card.file)
    options = {
        **SMALL,
        "DATASETS.TRAIN": ("bench_coco_train",),
        "DATASETS.TEST": (),
        "SOLVER.MAX_ITER": 20,
        "SOLVER.WARMUP_ITERS": 5,
        "DATALOADER.NUM_WORKERS": 2,
        "OUTPUT_DIR": str(folder / "annotations"),
    }
    begin = time.perf_counter()
    trainer = RetinaTrainer(load_config(ROOT / DIGITS, pairs(options)))
    ready = time.perf_counter()
    trainer.train()
    return {
        "seconds until the trainer is there": round(ready - begin, 1),
        "seconds of 20 steps": round(time.perf_counter() - ready, 1),
        "peak memory of the parent, MiB": round(_peak()),
        "with two processes that load, MiB": round(_resident()),
    }


PARTS = {
    "fuzz": fuzz,
    "kills": kills,
    "processes": processes,
    "memory": memory,
    "evaluation": evaluation,
    "annotations": annotations,
}


def main() -> int:
    """Run each part in a separate process and write the results; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--output", default="output/soak")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    folder = Path(args.output).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if args.alone:
        print("\n" + json.dumps(PARTS[args.parts[0]](folder)))
        return 0
    file, failed = folder / "soak.json", False
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for part in args.parts or PARTS:
        begin = time.perf_counter()
        command = [sys.executable, __file__, part, "--alone", "--output", folder]
        with tempfile.TemporaryFile("w+") as errors:
            result = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True)
            errors.seek(0)
            trouble = errors.read()[-2000:]
        failed |= result.returncode != 0
        found[part] = json.loads(result.stdout.splitlines()[-1]) if result.returncode == 0 else {"failed": trouble}
        found[part]["minutes"] = round((time.perf_counter() - begin) / 60, 1)
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"{part}: {json.dumps(found[part], indent=1)}", flush=True)
    rows = [f"| {part} | {name} | {value} |" for part, values in found.items() for name, value in values.items()]
    table = "\n".join(["| part | what | figure |", "|---|---|---|", *rows, ""])
    (folder / "soak.md").write_text(table, encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
