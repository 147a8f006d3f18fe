"""RetinaNet (Lin et al. 2017) as a plugin of Detectron2: ``import retina_plugin`` fills the registries.

Predict with Detectron2's own predictor::

    import retina_plugin
    from detectron2.engine import DefaultPredictor

    weights = ["MODEL.WEIGHTS", "output/quickstart/model_final.pth"]
    cfg = retina_plugin.load_config("output/quickstart/config.yaml", weights)
    instances = DefaultPredictor(cfg)(image)["instances"]     # image: (H, W, 3) uint8, BGR

or, from the checkpoint alone, ``retina_plugin.load_predictor("output/quickstart/model_final.pth")``.
"""

import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .moved import install_finder
from .paths import is_the_command
from .version import __version__

if TYPE_CHECKING:
    from .config import add_retina_config, load_config, ready_config
    from .engine import RetinaTrainer, set_up
    from .inference.predictor import load_predictor

__all__ = [
    "RetinaTrainer",
    "__version__",
    "add_retina_config",
    "fill_registries",
    "load_config",
    "load_predictor",
    "ready_config",
    "set_up",
]


def fill_registries() -> None:
    """Import all parts, which registers them; called when the package is imported, except by the ``retina`` command.

    The command calls it once it knows that a subcommand needs it: ``retina --help`` must be quick, and
    ``retina doctor`` must run where torch or detectron2 is missing. A second call does nothing.

    Raises:
        ImportError: something that the plugin needs is missing; the message names the command that helps.
    """
    if "set_up" in globals():
        return
    try:
        with warnings.catch_warnings():
            # fvcore and detectron2 script some functions with torch.jit, which torch has deprecated.
            warnings.filterwarnings("ignore", category=FutureWarning, module="torch")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
            from . import data, engine, evaluation, modeling, packages  # noqa: F401  (registered on import)
            from .config import add_retina_config, load_config, ready_config
            from .config.check import REFUSED_BY, WARNED_BY
            from .config.contradictions import has_own_pyramid, is_ours
            from .config.imports import AFTERWARDS, import_installed
            from .config.resolve import ON_DATASET
            from .inference.predictor import load_predictor

            # What config must not import: the checks that the parts themselves make of a config.
            REFUSED_BY.append(
                lambda cfg: (
                    modeling.neck.PyramidLevels.from_config(cfg) if has_own_pyramid(cfg) or is_ours(cfg) else None
                )
            )
            REFUSED_BY.append(evaluation.refuse_unknown_metric)
            REFUSED_BY.append(data.augmentations.refuse_wrong_operations)
            WARNED_BY.append(modeling.unused_options)
            ON_DATASET.append(data.register_view)
            AFTERWARDS.append(data.register_new_cards)
            globals().update(
                add_retina_config=add_retina_config,
                load_config=load_config,
                load_predictor=load_predictor,
                ready_config=ready_config,
                RetinaTrainer=engine.RetinaTrainer,
                set_up=engine.set_up,
            )
            import_installed()
            data.register_new_cards()
    except ImportError as error:
        raise ImportError(
            f"retina_plugin cannot work here: {error}. `retina doctor` names the command that fixes it"
        ) from error


def __getattr__(name: str) -> object:
    """Fill the registries when a public name is first used by the command line."""
    if name in __all__ and name not in globals():
        fill_registries()
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _has_torch() -> bool:
    """Return whether torch can be imported; exported models run without it."""
    try:
        return find_spec("torch") is not None
    except (ImportError, ValueError):
        return False


install_finder()
if not is_the_command() and _has_torch():
    fill_registries()
