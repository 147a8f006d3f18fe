"""``retina explain-focal``: the focal loss, in numbers and pictures."""

import argparse
from pathlib import Path

EXAMPLE = "retina explain-focal --checkpoint output/quickstart/model_final.pth --images 32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("--checkpoint", help="of the plugin: also draws figure 4, the loss over real anchors")
    parser.add_argument(
        "--dataset",
        help="for figure 4: a registered dataset, such as digits_val; without, the checkpoint's DATASETS.TEST",
    )
    parser.add_argument("--images", type=int, default=32, help="images for figure 4")
    parser.add_argument("--output", default="output/focal", help="folder for the pictures")


def run(args: argparse.Namespace) -> int:
    """Print the imbalance example, draw figure 1 and, with a checkpoint, figure 4."""
    from retina_plugin.analysis.focal_loss import draw_figure_1, imbalance_example

    if args.images < 1:
        raise ValueError(f"--images must be at least 1; got {args.images}")
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    print(f"One object among a hundred easy backgrounds (base-10 logarithms):\n\n{imbalance_example()}\n")
    print("The backgrounds are easy, but so numerous that they make up most of the cross entropy.")
    print("With the focal loss the object makes up most of the loss.")
    draw_figure_1(folder / "figure_1.png")
    print(f"\n{folder / 'figure_1.png'}   loss over the probability of the right answer (figure 1 of the paper)")
    if args.checkpoint:
        _figure_4(args, folder)
    return 0


def _figure_4(args: argparse.Namespace, folder: Path) -> None:
    """Draw figure 4 from the anchors of real images, and print its table."""
    import torch

    from detectron2.data import DatasetCatalog

    from retina_plugin import load_predictor
    from retina_plugin.analysis.focal_loss import collect_p_t, draw_figure_4
    from retina_plugin.data.mapper import RetinaMapper, build_augmentations

    torch.manual_seed(0)
    predictor = load_predictor(args.checkpoint)
    cfg = predictor.cfg
    name = args.dataset or cfg.DATASETS.TEST[0]  # load_predictor always names one
    mapper = RetinaMapper(
        augmentations=build_augmentations(cfg, is_train=False), image_format=cfg.INPUT.FORMAT, is_train=True
    )
    if name not in DatasetCatalog:
        raise ValueError(f"the dataset {name} is not registered here; --dataset names another, such as digits_val")
    records = DatasetCatalog.get(name)[: args.images]
    foreground, background = collect_p_t(predictor.model, ([mapper(record)] for record in records))
    shares = draw_figure_4(foreground, background, folder / "figure_4.png")
    print(f"{folder / 'figure_4.png'}   cumulative loss over {len(records)} images of {name} (figure 4)\n")
    print("| γ | share of the hardest tenth, foreground | background |\n|---|---|---|")
    for gamma, (hard_foreground, hard_background) in shares.items():
        print(f"| {gamma:g} | {100 * hard_foreground:.1f} % | {100 * hard_background:.1f} % |")
