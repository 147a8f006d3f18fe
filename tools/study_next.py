"""What `retina data next` is worth: AP after adding the chosen images against as many random ones.

A detector is trained on a few random images of a labelled dataset; then its training set is enlarged once by the images
that `retina data next` chooses, once by random ones, and it is trained again with the same settings.

python tools/study_next.py --data digits --config-file configs/digits/quickstart.yaml --seeds 1 2 3
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.discover import find_card
from retina_plugin.data.export import write_dataset
from retina_plugin.data.load import load_split


def main() -> None:
    """Run the study, and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a dataset with the splits train and val")
    parser.add_argument("--config-file", required=True, help="of the trainings")
    parser.add_argument("--start", type=int, default=50, help="images of the first training")
    parser.add_argument("--budget", type=int, default=50, help="images that are added")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", default="output/study_next")
    parser.add_argument("opts", nargs="*", help="KEY VALUE ... of the trainings")
    args = parser.parse_intermixed_args()
    card, output = find_card(args.data), Path(args.output)
    splits = {split: load_split(card, split).records for split in ("train", "val")}
    rows = []
    for seed in args.seeds:
        order = np.random.default_rng(seed).permutation(len(splits["train"])).tolist()
        first, rest = order[: args.start], order[args.start :]
        folder = output / f"seed{seed}"
        ap = {"start": train(args, folder / "start", card, splits, first, seed)}
        chosen = choose(args, folder, [splits["train"][i]["file_name"] for i in rest])
        by_file = {str(Path(splits["train"][i]["file_name"]).resolve()): i for i in rest}
        for name, added in (("next", [by_file[file] for file in chosen]), ("random", rest[: args.budget])):
            ap[name] = train(args, folder / name, card, splits, [*first, *added], seed)
            objects = sum(len(splits["train"][i]["annotations"]) for i in added)
            ap[f"{name} objects"] = objects
        rows.append(ap)
        print(f"seed {seed}: {ap}", flush=True)
    write(rows, args, output / "table.md")


def train(
    args: argparse.Namespace,
    folder: Path,
    card: DatasetCard,
    splits: dict[str, list[dict]],
    chosen: list[int],
    seed: int,
) -> float:
    """Train on the chosen images unless that is done, and return AP."""
    data, run = folder / "data", folder / "run"
    if not data.is_dir():
        records = {"train": [splits["train"][i] for i in chosen], "val": splits["val"]}
        write_dataset(card, records, data, name="_".join(folder.parts[-2:]))
    if not (run / "summary.json").is_file():
        words = ["--data", str(data), "--config-file", args.config_file, "OUTPUT_DIR", str(run), "SEED", str(seed)]
        retina(["train", *words, *args.opts])
    return json.loads((run / "results.json").read_text(encoding="utf-8"))["bbox"]["AP"]


def choose(args: argparse.Namespace, folder: Path, files: list[str]) -> list[str]:
    """Return the images that `retina data next` chooses."""
    output = folder / "chosen"
    if not (output / "next.txt").is_file():
        (folder / "pool.txt").write_text("".join(f"{Path(file).resolve()}\n" for file in files), encoding="utf-8")
        run = folder / "start/run"
        model = next(x for x in (run / "model_best.pth", run / "model_final.pth") if x.is_file())
        words = ["--model", str(model), "--budget", str(args.budget), "--output", str(output)]
        retina(["data", "next", str(folder / "pool.txt"), *words])
    return (output / "next.txt").read_text(encoding="utf-8").splitlines()


def retina(words: list[str]) -> None:
    """Run a command of the plugin."""
    subprocess.run([sys.executable, "-m", "retina_plugin", *words], check=True, stdout=subprocess.DEVNULL)


def write(rows: list[dict[str, float]], args: argparse.Namespace, file: Path) -> None:
    """Write and print the table."""
    lines = [
        f"| seed | AP, {args.start} images | + {args.budget} chosen | + {args.budget} random | objects added |",
        "|---|---|---|---|---|",
    ]
    for seed, x in zip(args.seeds, rows, strict=True):
        objects = f"{x['next objects']} and {x['random objects']}"
        lines.append(f"| {seed} | {x['start']:.1f} | {x['next']:.1f} | {x['random']:.1f} | {objects} |")
    difference = [x["next"] - x["random"] for x in rows]
    spread = f" ± {np.std(difference, ddof=1):.1f}" if len(rows) > 1 else ""
    lines.append(f"\nchosen - random: {np.mean(difference):+.1f}{spread} AP (mean and standard deviation over seeds)")
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
