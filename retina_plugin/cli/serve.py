"""``retina serve``: a detector behind HTTP, with a page to try it on."""

import argparse
from typing import Any

from retina_plugin.cli.predict import needs_torch

__all__ = ["EXAMPLE", "add_arguments", "needs_torch", "run"]

EXAMPLE = """retina serve output/pets/model_best.pth               http://127.0.0.1:8000 is a page to drop an image on
  retina serve output/pets/model_best_int8.xml          torch is not imported
  curl --data-binary @image.jpg http://127.0.0.1:8000/predict"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the subcommand."""
    parser.add_argument("checkpoint", help="a checkpoint, or a file of `retina export`")
    parser.add_argument("--score", type=float, metavar="S", help="minimum score (default: the best of each class)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 is reachable from outside")
    parser.add_argument("--port", type=int, default=8000, help="port to listen at")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU if there is one)")


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    try:
        import uvicorn

        from retina_plugin.inference.server import build_app
    except ModuleNotFoundError as error:
        raise ImportError(f"a server needs FastAPI: pip install 'retina-plugin[serve]' ({error})") from error
    if args.score is not None and not 0 <= args.score < 1:
        raise ValueError(f"--score must be at least 0 and below 1, got {args.score:g}")
    if not 0 < args.port < 2**16:
        raise ValueError(f"--port must be from 1 to 65535, got {args.port}")
    predictor = _load(args)
    thresholds = getattr(predictor, "thresholds", None)
    score = args.score if args.score is not None else float(min(thresholds)) if thresholds is not None else 0.05
    uvicorn.run(build_app(predictor, name=args.checkpoint, score=score), host=args.host, port=args.port)
    return 0


def _load(args: argparse.Namespace) -> Any:
    """Return the predictor of a checkpoint or of an exported file."""
    score = "best" if args.score is None else args.score
    if not needs_torch(args):
        from retina_plugin.export.runtime import ExportedModel

        if args.device:
            raise ValueError("--device needs the checkpoint, not an exported file")
        return ExportedModel(args.checkpoint, score=score)
    from retina_plugin.inference.predictor import load_predictor

    return load_predictor(args.checkpoint, score_thresh=score, device=args.device, imports=bool(args.imports))
