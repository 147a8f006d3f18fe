"""Names, reloads and unknown names."""

import pytest

from retina_plugin.registry import SlotRegistry


def make(qualname, module="m"):
    return type(qualname, (), {"__module__": module})


def test_registers_under_the_given_name_and_survives_a_reload():
    registry = SlotRegistry("loss", "MODEL.LOSS")
    first, again = make("Focal"), make("Focal")
    registry.register("focal")(first)
    registry.register("focal")(again)
    assert registry.get("focal") is again


def test_another_object_under_a_taken_name_is_refused():
    registry = SlotRegistry("loss", "MODEL.LOSS")
    registry.register("focal")(make("Focal"))
    with pytest.raises(ValueError, match="already registered by m.Focal"):
        registry.register("focal")(make("Other"))


def test_an_unknown_name_is_answered_with_key_known_names_and_the_nearest():
    registry = SlotRegistry("loss", "MODEL.LOSS")
    registry.register("focal")(make("Focal"))
    registry.register("ohem")(make("Ohem"))
    with pytest.raises(ValueError, match=r"MODEL.LOSS is 'focall'.*known: focal, ohem. Did you mean 'focal'\?"):
        registry.get("focall")


def test_a_variant_gets_those_options_that_it_names():
    registry = SlotRegistry("thing", "A.THING")

    @registry.register("two")
    class Two:
        def __init__(self, *, a, b):
            self.options = (a, b)

    assert registry.build("two", a=1, b=2, c=3).options == (1, 2)
    with pytest.raises(ValueError, match="A.THING is 'tow'.*Did you mean 'two'"):
        registry.build("tow", a=1)
