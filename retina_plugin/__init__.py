"""RetinaNet (Lin et al. 2017) as a plugin of Detectron2: ``import retina_plugin`` fills the registries.

Predict with Detectron2's own predictor::

    import retina_plugin
    from detectron2.engine import DefaultPredictor

    cfg = retina_plugin.load_config("output/quickstart/config.yaml", ["MODEL.WEIGHTS", "output/quickstart/model_final.pth"])
    instances = DefaultPredictor(cfg)(image)["instances"]     # image: (H, W, 3) uint8, BGR

or, from the checkpoint alone, ``retina_plugin.load_predictor("output/quickstart/model_final.pth")``.
"""

__version__ = "0.1.0"

import sys
import warnings

try:
    with warnings.catch_warnings():
        # fvcore and detectron2 script some functions with torch.jit, which torch says is going away.
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
        from . import data, engine, evaluation, modeling, packages  # noqa: F401  (registered on import)
        from .config import add_retina_config, load_config, ready_config
        from .config.check import REFUSED_BY, WARNED_BY
        from .config.contradictions import has_own_pyramid, is_ours
        from .config.imports import AFTERWARDS, import_installed
        from .config.resolve import ON_DATASET
        from .engine import RetinaTrainer, set_up

        # What config must not import: the parts' own word on a config.
        REFUSED_BY.append(
            lambda cfg: modeling.neck.PyramidLevels.from_config(cfg) if has_own_pyramid(cfg) or is_ours(cfg) else None
        )
        REFUSED_BY.append(evaluation.refuse_unknown_metric)
        WARNED_BY.append(modeling.unused_options)
        ON_DATASET.append(data.register_view)
        AFTERWARDS.append(data.register_new_cards)
        import_installed()
        data.register_new_cards()
except ImportError as error:
    # `retina doctor` has to run just where this fails; nothing else may go on without the registries.
    if sys.argv[1:2] != ["doctor"]:
        raise ImportError(
            f"retina_plugin cannot work here: {error}. `python -m retina_plugin doctor` says what to mend"
        ) from error

__all__ = [
    "RetinaTrainer",
    "__version__",
    "add_retina_config",
    "load_config",
    "load_predictor",
    "ready_config",
    "set_up",
]


def load_predictor(
    checkpoint: str, *, score_thresh: float | None = None, device: str | None = None, imports: bool = False
):
    """Detectron2's ``DefaultPredictor`` from a checkpoint of the plugin and nothing else.

    See :func:`retina_plugin.inference.predictor.load_predictor`.
    """
    from .inference.predictor import load_predictor as load

    return load(checkpoint, score_thresh=score_thresh, device=device, imports=imports)
