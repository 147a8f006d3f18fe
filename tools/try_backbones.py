"""Find out which networks of torchvision and timm work as a backbone.

    python tools/try_backbones.py torchvision
    python tools/try_backbones.py timm 'resnet*' ...

Each network is built for P3-P5 and given an image of 96 x 160. Prints those that are refused, with the reason, and the
counts.
"""

import sys
import warnings

import timm
import torch
import torchvision

from retina_plugin.modeling.backbone.timm import TimmBackbone
from retina_plugin.modeling.backbone.torchvision import TorchvisionBackbone

FEATURES = {"res3": (12, 20), "res4": (6, 10), "res5": (3, 5)}


def refusal(kind: type, name: str) -> str | None:
    """Return why a network cannot be used, or None if it can."""
    try:
        network = kind(name=name, out_features=list(FEATURES)).eval()
        with torch.no_grad():
            maps = network(torch.zeros(1, 3, 96, 160))
    except (ValueError, RuntimeError, AssertionError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0][:150]}"
    shapes = {feature: tuple(maps[feature].shape[-2:]) for feature in FEATURES}
    return None if shapes == FEATURES else f"its maps have the sizes {shapes}"


def main(library: str = "torchvision", *patterns: str) -> int:
    """Try all networks that match."""
    warnings.simplefilter("ignore")
    if library == "torchvision":
        kind, names = TorchvisionBackbone, torchvision.models.list_models(module=torchvision.models)
    else:
        kind = TimmBackbone
        names = sorted({name for pattern in patterns or ("*",) for name in timm.list_models(pattern)})
    refused = {}
    for name in names:
        if reason := refusal(kind, name):
            refused[name] = reason
            print(f"{name}: {reason}", flush=True)
    print(f"{len(names) - len(refused)} of {len(names)} can be used")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
