"""``retina compare``: which of two detectors is better on the same images, and how sure that is."""

import argparse

EXAMPLE = """retina compare output/pets output/pets_giou                       two runs, or two evaluations
  retina compare a/predictions.json b/predictions.json --data FOLDER"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("first", help="folder of a run or of an evaluation, or a JSON file of detections")
    parser.add_argument("second", help="the same, of the other detector")
    parser.add_argument("--data", metavar="PATH", help="a registered dataset, a card, or a folder of labelled images")
    parser.add_argument("--samples", type=int, default=1000, metavar="N", help="bootstrap samples")
    parser.add_argument("--output", metavar="FOLDER", default="output/compare", help="of compare.html and compare.json")


def run(args: argparse.Namespace) -> int:
    """Compare, write the page and the numbers, and print the difference of AP."""
    import json
    from pathlib import Path

    from retina_plugin.analysis.comparison import compare, verdict
    from retina_plugin.analysis.detections import read_detections
    from retina_plugin.analysis.diagnosis import plain
    from retina_plugin.data.pixels import read_image
    from retina_plugin.engine.console import say
    from retina_plugin.report.comparison_page import write_comparison

    if args.samples < 100:
        raise ValueError(f"--samples must be at least 100 for an interval, got {args.samples}")
    first, second = (read_detections(x, args.data) for x in (args.first, args.second))
    found = compare(first, second, samples=args.samples)
    names = (args.first, args.second)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: plain(getattr(found, name)) for name in ("metrics", "classes", "slices", "images")}
    text = json.dumps({"first": args.first, "second": args.second, **content}, indent=1)
    (folder / "compare.json").write_text(text, encoding="utf-8")
    page = write_comparison(found, folder / "compare.html", lambda file: read_image(file, "BGR"), names)
    say(f"{verdict(found, names)}.")
    say(f"written: {page}, {folder / 'compare.json'}")
    return 0
