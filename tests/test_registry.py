"""The registry of slots: names, reloads, unknown names and constructor arguments."""

import pytest

from retina_plugin.registry import SLOTS, SlotRegistry


@pytest.fixture(autouse=True)
def slots():
    """Forget the registries of a test, which add themselves to the slots of the plugin."""
    before = dict(SLOTS)
    yield
    SLOTS.clear()
    SLOTS.update(before)


def make(qualname, module="m"):
    return type(qualname, (), {"__module__": module})


def test_a_variant_has_its_given_name_and_can_be_reloaded():
    registry = SlotRegistry("loss", "MODEL.LOSS")
    first, again = make("Focal"), make("Focal")
    registry.register("focal")(first)
    registry.register("focal")(again)
    assert registry.get("focal") is again


def test_a_different_object_under_the_same_name_is_refused():
    registry = SlotRegistry("loss", "MODEL.LOSS")
    registry.register("focal")(make("Focal"))
    with pytest.raises(ValueError, match="already registered by m.Focal"):
        registry.register("focal")(make("Other"))


def test_an_unknown_name_is_reported_with_key_known_names_and_the_nearest():
    registry = SlotRegistry("loss", "MODEL.LOSS")
    registry.register("focal")(make("Focal"))
    registry.register("ohem")(make("Ohem"))
    with pytest.raises(ValueError, match=r"MODEL.LOSS is 'focall'.*known: focal, ohem. Did you mean 'focal'\?"):
        registry.get("focall")


def test_a_constructor_gets_only_the_arguments_it_names():
    registry = SlotRegistry("thing", "A.THING")

    @registry.register("two")
    class Two:
        def __init__(self, *, a, b):
            self.options = (a, b)

    assert registry.build("two", a=1, b=2, c=3).options == (1, 2)
    with pytest.raises(ValueError, match="A.THING is 'tow'.*Did you mean 'two'"):
        registry.build("tow", a=1)
