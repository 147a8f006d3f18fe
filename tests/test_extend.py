"""One module exports everything needed to write a variant."""

from retina_plugin import extend
from retina_plugin.registry import SLOTS


def test_it_exports_every_registry_and_everything_it_imports():
    names = {name for name in vars(extend) if not name.startswith("_")}
    assert set(extend.__all__) == names
    registries = {id(getattr(extend, name)) for name in extend.__all__ if name.endswith("_REGISTRY")}
    missing = [
        key for key, registry in SLOTS.items() if ("." in key or "card" in key) and id(registry) not in registries
    ]
    assert missing == []
