"""The long tests: ``python tools/soak.py [PART ...]``, or ``make soak``. Writes OUTPUT/soak.json, soak.md and memory.png.

fuzz          100,000 changed files of every kind are read or refused (tests/fuzz/soak.py).
kills         A training that is killed with SIGKILL 20 times at random moments ends with the weights of one that was not.
processes     Two processes against one with the same global batch: losses over 50 steps, AP at the end.
memory        Memory of the training loader and of the evaluator over 10,000 batches.
evaluation    100,000 images with 2,000,000 detections are scored: time and memory.
annotations   A data set of 1,000,000 annotations: time and memory until the first step, and of 20 steps.
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
SMALL = [
    "MODEL.DEVICE",
    "cpu",
    "MODEL.FPN.OUT_CHANNELS",
    32,
    "MODEL.RETINANET.NUM_CONVS",
    1,
    "INPUT.MIN_SIZE_TRAIN",
    "(96,)",
    "INPUT.MIN_SIZE_TEST",
    96,
    "SOLVER.IMS_PER_BATCH",
    2,
    "SOLVER.REFERENCE_BATCH_SIZE",
    0,
    "DATALOADER.NUM_WORKERS",
    1,
    "SOLVER.AMP.ENABLED",
    False,
    "TEST.REPORT",
    False,
]
"""The quickstart, small."""


def call(*words, wait: bool = True, **more) -> subprocess.Popen:
    """``train_net.py`` with these words, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "train_net.py", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **more,
    )
    if wait:
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(out[-3000:])
    return process


def fuzz(folder: Path) -> dict:
    """See :mod:`tests.fuzz.soak`."""
    result = subprocess.run(
        [sys.executable, "tests/fuzz/soak.py"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    (folder / "fuzz.txt").write_text(result.stdout, encoding="utf-8")
    return {
        "exit code": result.returncode,
        "last lines": [line for line in result.stdout.splitlines() if "inputs," in line or "folder " in line][-2:],
    }


def kills(folder: Path, *, count: int = 20, iterations: int = 600) -> dict:
    """Kill a training again and again; the moments are drawn from the seconds that one start takes, a third of them while a checkpoint is written."""
    import torch

    draw, work = random.Random(0), folder / "kills"
    shutil.rmtree(work, ignore_errors=True)
    common = [
        "--config-file",
        "configs/digits/quickstart.yaml",
        *SMALL,
        "DATASETS.TEST",
        "()",
        "SOLVER.MAX_ITER",
        iterations,
        "SOLVER.WARMUP_ITERS",
        20,
        "SOLVER.CHECKPOINT_PERIOD",
        10,
    ]
    begin = time.perf_counter()
    call(*common, "OUTPUT_DIR", work / "whole")
    whole = time.perf_counter() - begin
    done, in_write, reached = 0, 0, []
    while True:
        run = work / "killed"
        process = call(*common[:2], "--resume", *common[2:], "OUTPUT_DIR", run, wait=False)
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
                reached.append(len(list(run.glob("model_*.pth"))) if run.is_dir() else 0)
                continue
        out, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(out[-3000:])
        if done >= count or (run / "model_final.pth").exists():
            break
    a, b = (torch.load(work / name / "model_final.pth", weights_only=True)["model"] for name in ("whole", "killed"))
    return {
        "kills": done,
        "while a checkpoint was written": in_write,
        "weights equal bit by bit": all(torch.equal(a[key], b[key]) for key in a) and a.keys() == b.keys(),
    }


def processes(folder: Path, *, iterations: int = 400) -> dict:
    """Losses of 50 steps (tests/engine/two_processes.py) and the AP of a training, on one process and on two."""
    work, torchrun = (
        folder / "processes",
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29719"],
    )
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    losses, aps = [], []
    for name, launcher in (("one", [sys.executable]), ("two", torchrun)):
        subprocess.run(
            [*launcher, "tests/engine/two_processes.py", work / f"{name}.json", "50"],
            cwd=ROOT,
            check=True,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        losses.append(
            [
                loss
                for step in json.loads((work / f"{name}.json").read_text(encoding="utf-8"))["losses"]
                for loss in step.values()
            ]
        )
        opts = [
            *SMALL,
            "SOLVER.IMS_PER_BATCH",
            8,
            "INPUT.MIN_SIZE_TRAIN",
            "(128,)",
            "INPUT.MIN_SIZE_TEST",
            128,
            "MODEL.FPN.NORM",
            "GN",
            "MODEL.RETINANET.NORM",
            "GN",
            "SOLVER.MAX_ITER",
            iterations,
        ]
        command = [
            *launcher,
            "train_net.py",
            "--config-file",
            "configs/digits/quickstart.yaml",
            *map(str, opts),
            "SOLVER.WARMUP_ITERS",
            "50",
            "OUTPUT_DIR",
            str(work / f"{name}_trained"),
        ]
        subprocess.run(command, cwd=ROOT, check=True, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        aps.append(json.loads((work / f"{name}_trained" / "results.json").read_text(encoding="utf-8"))["bbox"]["AP"])
    difference = max(abs(a - b) / a for a, b in zip(*losses, strict=True))
    return {
        "largest difference of a loss in 50 steps, relative": difference,
        "AP on one process": aps[0],
        "AP on two": aps[1],
    }


def _resident() -> float:
    """MiB of this process and those that it started; Linux."""
    fields = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields[int(status.parent.name)] = dict(
                line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines()
            )
        except OSError:  # ended just now
            continue
    mine = {os.getpid()}
    while more := {pid for pid, field in fields.items() if int(field["PPid"]) in mine} - mine:
        mine |= more
    return sum(int(fields[pid].get("VmRSS", "0 kB").split()[0]) for pid in mine) / 1024


def memory(folder: Path, *, batches: int = 10_000) -> dict:
    """Resident memory of the training loader with two processes, and of the evaluator, every 100 batches; a plot."""
    import matplotlib.pyplot as plt
    import torch

    from detectron2.structures import Boxes, Instances

    from retina_plugin import load_config
    from retina_plugin.engine import RetinaTrainer

    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*SMALL, "DATALOADER.NUM_WORKERS", 2])
    seen = {"training loader": [_resident()], "evaluator": []}
    for i, _ in zip(range(1, batches + 1), RetinaTrainer.build_train_loader(cfg), strict=False):
        if i % 100 == 0:
            seen["training loader"].append(_resident())
    judge = RetinaTrainer.build_evaluator(cfg, "digits_val")
    records, generator = list(judge.truth.coco["images"]), torch.Generator().manual_seed(0)
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
        judge.process([image], [{"instances": found}])
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
    """MiB, the most that this process ever had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def evaluation(folder: Path, *, images: int = 100_000, per_image: int = 20) -> dict:
    """Score random detections, with hotcoco; the seconds of taking, writing and scoring them."""
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
    judge, before = HotCocoEvaluator("soak", output_dir=str(folder / "evaluation")), _peak()
    begin = time.perf_counter()
    for i, record in enumerate(records):
        mine = torch.tensor(boxes[i][rng.integers(0, 7, per_image)], dtype=torch.float32) + torch.randn(per_image, 1)
        classes = torch.as_tensor((i + rng.integers(0, 7, per_image)) % 80)
        found = Instances((640, 640), pred_boxes=Boxes(mine), scores=torch.rand(per_image), pred_classes=classes)
        judge.process([record], [{"instances": found}])
    taken = time.perf_counter()
    result = judge.evaluate()["bbox"]["AP"]
    return {
        "detections": images * per_image,
        "seconds to take them": round(taken - begin, 1),
        "seconds to write and score them": round(time.perf_counter() - taken, 1),
        "peak memory above the ground truth, MiB": round(_peak() - before),
        "file, MiB": round((folder / "evaluation/coco_instances_results.json").stat().st_size / 2**20),
        "AP": round(result, 2),
    }


def annotations(folder: Path, *, boxes: int = 1_000_000) -> dict:
    """From a JSON of a million boxes on 118,287 images to 20 steps."""
    from retina_plugin import load_config
    from retina_plugin.bench.dataset_start import NUM_IMAGES, card_of, generated_coco
    from retina_plugin.data.catalog import register_card
    from retina_plugin.engine import RetinaTrainer

    data = generated_coco(NUM_IMAGES, boxes)
    card = card_of(data)
    card.file.write_text(card.text(), encoding="utf-8")
    register_card(card.file)
    opts = [
        *SMALL,
        "DATASETS.TRAIN",
        ("bench_coco_train",),
        "DATASETS.TEST",
        (),
        "SOLVER.MAX_ITER",
        20,
        "SOLVER.WARMUP_ITERS",
        5,
        "DATALOADER.NUM_WORKERS",
        2,
        "OUTPUT_DIR",
        str(folder / "annotations"),
    ]
    begin = time.perf_counter()
    trainer = RetinaTrainer(load_config(ROOT / "configs/digits/quickstart.yaml", opts))
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
    """Run the parts, each in a process of its own, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
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
        with tempfile.TemporaryFile("w+") as errors:
            result = subprocess.run(
                [sys.executable, __file__, part, "--alone", "--output", folder],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            errors.seek(0)
            trouble = errors.read()[-2000:]
        failed |= result.returncode != 0
        found[part] = json.loads(result.stdout.splitlines()[-1]) if result.returncode == 0 else {"failed": trouble}
        found[part]["minutes"] = round((time.perf_counter() - begin) / 60, 1)
        file.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"{part}: {json.dumps(found[part], indent=1)}", flush=True)
    rows = [f"| {part} | {name} | {value} |" for part, values in found.items() for name, value in values.items()]
    (folder / "soak.md").write_text(
        "\n".join(["| part | what | figure |", "|---|---|---|", *rows, ""]), encoding="utf-8"
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
