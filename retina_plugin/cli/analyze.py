"""``retina analyze``: what a detector gets right and wrong."""

import argparse

EXAMPLE = """retina analyze output/pets                                     a run, into output/pets/analysis.html
  retina analyze output/pets/eval/model_best                      an evaluation
  retina analyze output/predict/predictions.json --data FOLDER    predictions of labelled images
  retina analyze output/pets --columns photos.csv                 AP by the columns of a table: camera, weather, ..."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("source", help="folder of a run or of an evaluation, or a JSON file of detections")
    parser.add_argument("--data", metavar="PATH", help="a registered dataset, a card, or a folder of labelled images")
    parser.add_argument(
        "--columns", metavar="FILE", help="a CSV file with a first column of file names: slices by the other columns"
    )
    parser.add_argument("--brightness", action="store_true", help="also slice by the brightness of the images")
    parser.add_argument(
        "--metrics",
        action="append",
        default=[],
        choices=("voc", "lvis"),
        help="also VOC's or LVIS's metrics; may be repeated",
    )
    parser.add_argument(
        "--output", metavar="FOLDER", help="of analysis.html and analysis.json (default: next to the detections)"
    )


def run(args: argparse.Namespace) -> int:
    """Analyse, write the page and the numbers, and print the overview."""
    import json
    from pathlib import Path

    from retina_plugin.analysis.advice import advise
    from retina_plugin.analysis.detections import read_detections
    from retina_plugin.analysis.diagnosis import as_json, diagnose, other_metrics
    from retina_plugin.analysis.properties import brightness_of, columns_of
    from retina_plugin.data.pixels import read_image
    from retina_plugin.engine.console import say
    from retina_plugin.report.analysis_page import overview, write_analysis
    from retina_plugin.report.run_page import json_lines

    detections = read_detections(args.source, args.data)
    folder = Path(args.output) if args.output else detections.source.parent
    folder.mkdir(parents=True, exist_ok=True)
    properties: dict = columns_of(args.columns, detections.coco["images"]) if args.columns else {}
    if args.brightness:
        properties["brightness of the image"] = brightness_of(detections.coco["images"])
    found = diagnose(detections, properties=properties)
    found.others = other_metrics(detections, args.metrics)
    beside = detections.source.parent
    found.advice = advise(found, metrics=json_lines(beside / "metrics.json"))
    (folder / "analysis.json").write_text(json.dumps(as_json(found), indent=1), encoding="utf-8")
    page = write_analysis(found, folder / "analysis.html", lambda file: read_image(file, "BGR"))
    for line in overview(found):
        say(line)
    say(f"written: {page}, {folder / 'analysis.json'}")
    return 0
