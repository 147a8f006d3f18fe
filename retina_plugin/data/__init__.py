"""Datasets described by cards; importing ``retina_plugin`` registers every card it finds, without reading any data."""

from typing import TYPE_CHECKING

from retina_plugin.lazy import lazy_names

if TYPE_CHECKING:
    from .card import DatasetCard
    from .catalog import register_card, register_cards, register_new_cards
    from .problems import DatasetProblems, Kind, Problem
    from .views import register_view

__all__ = [
    "DatasetCard",
    "DatasetProblems",
    "Kind",
    "Problem",
    "register_card",
    "register_cards",
    "register_new_cards",
    "register_view",
]

__getattr__ = lazy_names(
    __name__,
    {
        "DatasetCard": "card",
        "DatasetProblems": "problems",
        "Kind": "problems",
        "Problem": "problems",
        "register_card": "catalog",
        "register_cards": "catalog",
        "register_new_cards": "catalog",
        "register_view": "views",
    },
)
