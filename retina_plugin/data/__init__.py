"""Datasets described by cards; importing ``retina_plugin`` registers every card it finds, without reading any data."""

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
