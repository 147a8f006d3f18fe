"""Datasets as cards; importing this registers every card that is found, without reading any data."""

from .card import DatasetCard, register_card, register_cards
from .problems import DatasetProblems, Problem

__all__ = ["DatasetCard", "DatasetProblems", "Problem", "register_card", "register_cards"]

register_cards()
