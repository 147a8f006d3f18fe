"""All rules: no key of the user is changed."""

import pytest
from drafts import draft, record, symmetry

from retina_plugin.plan import rules
from retina_plugin.plan.budget import Budget, Speed


@pytest.mark.parametrize("rule", [*rules.RULES, *rules.AFTER_MEASURING])
def test_no_rule_changes_a_key_of_the_user(rule):
    facts = {"most": 500, "empty": 0.9, "images_with": {"a": 150, "b": 5}, "symmetry": symmetry(0.5), "crowded": 0.5}
    some = [record([x, 100, x + 12, 112]) for x in range(0, 600, 20)]
    speed = Speed(train=0.1, test=0.05, memory=6 * 2**30)
    budget = Budget(minutes=5, memory=2**30)
    free = draft(*some, budget=budget, speed=speed, sides=(20,) * 5, **facts)
    found = rule(free)
    choices = found if isinstance(found, list) else [found]
    every = [key for choice in choices for key in choice.settings]
    if rule is rules.affordable:  # nothing to lower for tiles or for the smallest input
        return
    assert every, "the facts are such that every rule chooses something"
    fixed = draft(*some, budget=budget, speed=speed, given=every, sides=(20,) * 5, **facts)
    before = dict(fixed.settled)
    for choice in choices:
        fixed.apply(choice)
    assert fixed.settled == before and fixed.choices == []
