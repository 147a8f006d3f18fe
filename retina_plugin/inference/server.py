"""A detector behind HTTP: images in, JSON out, and a page to drop an image on."""

import tempfile
import threading
import time
from typing import Any

import cv2
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse

from retina_plugin.inference.stream import Predictor
from retina_plugin.report.render import render
from retina_plugin.version import __version__

MOST_BYTES = 64 * 2**20
"""Largest upload."""


def build_app(predictor: Any, *, name: str, score: float) -> FastAPI:
    """Return an application with ``POST /predict`` (the bytes of an image), ``GET /model`` and a page at ``/``.

    Args:
        predictor: a :class:`retina_plugin.inference.RetinaPredictor` or an exported model.
        name: of the model, for the page.
        score: minimum score that the page starts with.
    """
    app = FastAPI(title="retina_plugin", version=__version__)
    lock = threading.Lock()  # one image at a time: the network uses all cores, or the GPU
    classes = list(predictor.class_names)

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        """Return the page."""
        subtitle = f"{len(classes)} classes: {', '.join(classes[:20])}{', ...' if len(classes) > 20 else ''}"
        return render("serve.html", title=name, subtitle=subtitle, score=round(score, 2))

    @app.get("/model")
    def model() -> dict:
        """Return what the model is."""
        return {"name": name, "class_names": classes, "version": __version__}

    @app.post("/predict")
    async def predict(request: Request) -> dict:
        """Return the detections in an image, boxes XYXY in its pixels."""
        content = bytearray()
        async for part in request.stream():
            content += part
            if len(content) > MOST_BYTES:
                raise HTTPException(413, f"an image may have {MOST_BYTES >> 20} MiB")
        return await run_in_threadpool(_detect, predictor, classes, bytes(content), lock)

    return app


def _detect(predictor: Predictor, classes: list[str], content: bytes, lock: threading.Lock) -> dict:
    """Return the detections in the bytes of an image file, read as in evaluation."""
    start = time.perf_counter()
    with tempfile.NamedTemporaryFile(suffix=".image") as file:
        file.write(content)
        file.flush()
        try:
            record = predictor.map_file(file.name)
        except (OSError, ValueError, cv2.error) as error:
            reason = getattr(error, "reason", None) or "it cannot be read"
            raise HTTPException(400, f"not an image that can be used: {reason}") from error
    with lock:
        (found,) = predictor.run([record], lambda part: None)
    detections = [
        {"box": box, "score": score, "label": label, "class": classes[label]}
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    ]
    spent = round(1000 * (time.perf_counter() - start))
    return {
        "height": record["height"],
        "width": record["width"],
        "milliseconds": spent,
        "detections": detections,
    }
