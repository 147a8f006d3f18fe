"""Train what `retina plan` plans, the fixed recipe and Detectron2's RetinaNet on the same data for the same minutes.

    python tools/compare_plans.py digits_few --minutes 4 [--seeds 1 2 3] [--sides plan fixed detectron2] [--images 25]

Each side gets as many training steps as fit into the minutes at the speed that is measured at its start, and is
evaluated once, at the end, on the validation split and on the test split if there is one; no checkpoint is chosen by
its result. The plan is that of `--data DATA --minutes N`; the fixed recipe is configs/finetune.yaml; Detectron2's side
has its own RetinaNet, loop, mapper, evaluator and float32, with the recipe's backbone, weights, input size, optimizer
and schedule, and its own anchors (32-812 px on P3-P7). --images N trains on that many images, drawn with the seed 0.

Results are added to the file of --results (default docs/plan/runs.json); a run that it holds is not repeated.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from compare_with_detectron2 import Detectron2Trainer, as_it_comes

from detectron2.config import CfgNode
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from retina_plugin import load_config
from retina_plugin.arguments import argument_parser
from retina_plugin.data.card import DatasetCard
from retina_plugin.data.catalog import register_card
from retina_plugin.data.discover import find_card
from retina_plugin.data.export import write_dataset
from retina_plugin.data.load import load_split, part_of
from retina_plugin.engine import run
from retina_plugin.engine.builders import build_model
from retina_plugin.engine.data_argument import FINETUNE, load_card, options_for
from retina_plugin.hardware import describe_hardware
from retina_plugin.paths import shipped
from retina_plugin.plan.budget import EVALUATIONS_SHARE, START_SECONDS, Speed, measure
from retina_plugin.version import __version__

SIDES = ("plan", "fixed", "detectron2")
METRICS = ("AP", "AP50", "AP75", "APs")
MEASURED_STEPS = 8
"""Steps of Detectron2's loop whose time is measured, after two that are not."""


def subset(data: str, images: int, folder: Path) -> str:
    """Write a dataset whose training split has only so many images, and return the path of its card."""
    card = find_card(data)
    file = folder / f"{card.name}_{images}.yaml"
    if not file.is_file():
        records = {split: load_split(card, split).records for split in card.splits}
        share = images / len(records["train"])
        records["train"] = part_of(records["train"], 0.0, share, seed=0)
        assert len(records["train"]) == images
        file = write_dataset(card, records, folder, name=f"{card.name}_{images}")
    return str(file)


def fixed_length(card: DatasetCard, minutes: float) -> tuple[list[str], Speed, int]:
    """Return the options that make configs/finetune.yaml take so long, its speed, and its steps."""
    options = [*options_for(card), "SOLVER.AMP.ENABLED", "True"]
    cfg = load_config(shipped(FINETUNE), options)
    records = load_split(card, "train", look=False).records
    height, width = typical_input(cfg, records)
    objects = max(1, sum(len(x["annotations"]) for x in records) // len(records))
    speed = measure(cfg, records, height=height, width=width, objects=objects, build=build_model)
    tested = len(load_split(card, "val", look=False).records)
    images = speed.images_in(minutes, evaluated=tested) / (1 - EVALUATIONS_SHARE)  # it is evaluated at the end only
    steps = int(images / cfg.SOLVER.IMS_PER_BATCH)
    return steps_of(steps, len(records) / cfg.SOLVER.IMS_PER_BATCH), speed, steps


def typical_input(cfg: CfgNode, records: list[dict]) -> tuple[int, int]:
    """Return the (height, width) of the network input of a middle-sized image."""
    middle = sorted(records, key=lambda x: x["height"] * x["width"])[len(records) // 2]
    zoom = min(
        cfg.INPUT.MIN_SIZE_TEST / min(middle["height"], middle["width"]),
        cfg.INPUT.MAX_SIZE_TEST / max(middle["height"], middle["width"]),
    )
    return round(middle["height"] * zoom), round(middle["width"] * zoom)


def steps_of(steps: int, epoch: float) -> list[str]:
    """Return the options for a training of so many steps with the recipe's warm-up, of an eighth, and frozen epoch."""
    values = {
        "SOLVER.EPOCHS": 0,
        "SOLVER.MAX_ITER": max(2, steps),
        "SOLVER.WARMUP_ITERS": max(1, steps // 8),
        "SOLVER.FREEZE_ITERS": min(round(epoch), steps // 24),
        "SOLVER.CHECKPOINT_PERIOD": max(1, steps),
    }
    return [str(word) for pair in values.items() for word in pair]


def trained_by_command(data: str, words: list[str], folder: Path) -> dict[str, Any]:
    """Run a training as the command line does, and return its results."""
    ends = ["TEST.EVAL_EPOCHS", "0", "TEST.EVAL_PERIOD", "0", "TEST.EARLY_STOP_PATIENCE", "0"]
    options = ["--data", data, "--overwrite", *words, *ends, "OUTPUT_DIR", str(folder)]
    start = time.perf_counter()
    run(argument_parser().parse_args(options))
    found = {"took": (time.perf_counter() - start) / 60}
    found["val"] = json.loads((folder / "results.json").read_text(encoding="utf-8"))["bbox"]
    test = folder / "final_test/results.json"
    if test.is_file():
        found["test"] = json.loads(test.read_text(encoding="utf-8"))["bbox"]
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {**found, "steps": summary["iterations"]}


def trained_by_detectron2(card: DatasetCard, minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    """Train Detectron2's RetinaNet, and return its results."""
    words = [
        *options_for(card),
        "SEED",
        seed,
        "OUTPUT_DIR",
        str(folder),
        "TEST.EARLY_STOP_PATIENCE",
        0,
        "TEST.EVAL_EPOCHS",
        0,
    ]
    words += [
        "MODEL.ANCHOR_GENERATOR.SCALE",
        4.0,
        "MODEL.RETINANET.LEVELS",
        [3, 4, 5, 6, 7],
        "TEST.VALIDATION_LOSS",
        False,
    ]
    words += ["SOLVER.FREEZE_EPOCHS", 0]
    start = time.perf_counter()
    seconds = _seconds_of_a_step(as_it_comes(load_config(shipped(FINETUNE), [*words, *steps_of(10_000, 0)])))
    cfg = load_config(shipped(FINETUNE), words)
    tested = len(load_split(card, "val", look=False).records)
    left = 60 * minutes - START_SECONDS - tested * seconds / cfg.SOLVER.IMS_PER_BATCH / 3
    options = steps_of(int(left / seconds), 0)
    cfg = as_it_comes(load_config(shipped(FINETUNE), [*words, *options]))
    start = time.perf_counter()
    trainer = _trainer(cfg)
    trainer.train()
    found: dict[str, Any] = {"val": trainer._last_eval_results["bbox"], "steps": cfg.SOLVER.MAX_ITER}
    found["took"] = (time.perf_counter() - start) / 60
    if "test" in card.splits:
        final = cfg.clone()
        final.defrost()
        final.DATASETS.TEST = (f"{card.name}_test",)
        found["test"] = Detectron2Trainer.test(final, trainer.model)["bbox"]
    return found


def commit() -> str:
    """Return the commit of the checkout, with a + if files differ from it; empty outside of one."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def _trainer(cfg: CfgNode) -> Detectron2Trainer:
    """Return a trainer with the weights of its config."""
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    seed_all_rng(cfg.SEED)
    trainer = Detectron2Trainer(cfg)
    trainer.checkpointer.load(cfg.MODEL.WEIGHTS, checkpointables=[])
    seed_all_rng(cfg.SEED)
    return trainer


def _seconds_of_a_step(cfg: CfgNode) -> float:
    """Return the median time of a step of Detectron2's loop, loading included."""
    from detectron2.utils.events import EventStorage

    trainer, times = _trainer(cfg), []
    with EventStorage():
        for i in range(MEASURED_STEPS + 2):
            trainer.iter = i
            start = time.perf_counter()
            trainer.run_step()
            times.append(time.perf_counter() - start)
    return sorted(times[2:])[MEASURED_STEPS // 2]


def main() -> None:
    """Train what is missing, and add it to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder, a card, or the name of a card")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--images", type=int, default=0, help="training images; 0: all")
    parser.add_argument("--output", default="output/plans", help="folder for the runs")
    parser.add_argument("--results", default="docs/plan/runs.json")
    args = parser.parse_args()
    setup_logger(name="detectron2")
    setup_logger(name="retina_plugin", abbrev_name="retina")
    output, results = Path(args.output).resolve(), Path(args.results)
    name = find_card(args.data).name
    data = subset(args.data, args.images, output / "data") if args.images else args.data
    card, _, _ = load_card(data, None)
    register_card(card.file, replace=True)
    for seed in args.seeds:
        for side in args.sides:
            key = {"data": name, "images": args.images, "minutes": args.minutes, "side": side, "seed": seed}
            held = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else []
            if any(all(one.get(k) == v for k, v in key.items()) for one in held):
                continue
            folder = output / f"{name}_{args.images or 'all'}_{args.minutes:g}" / f"{side}_{seed}"
            if side == "plan":
                found = trained_by_command(data, ["--minutes", f"{args.minutes:g}", "SEED", str(seed)], folder)
            elif side == "fixed":
                options, _, _ = fixed_length(card, args.minutes)
                found = trained_by_command(data, ["--no-plan", *options, "SEED", str(seed)], folder)
            else:
                found = trained_by_detectron2(card, args.minutes, seed, folder)
            for split in ("val", "test"):
                if split in found:
                    found[split] = {metric: round(found[split][metric], 2) for metric in METRICS}
            found["took"] = round(found["took"], 2)
            about = {"version": __version__, "commit": commit(), "machine": describe_hardware()}
            held = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else []
            results.parent.mkdir(parents=True, exist_ok=True)
            lines = ",\n".join(json.dumps(one) for one in [*held, {**key, **found, **about}])
            results.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
            print(json.dumps({**key, **found}), flush=True)


if __name__ == "__main__":
    main()
