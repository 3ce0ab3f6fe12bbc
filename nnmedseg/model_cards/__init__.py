"""Model cards: what each network is, costs and reports, as JSON-ready dictionaries and as text."""

from nnmedseg.model_cards._describe import describe_network, summarise_network
from nnmedseg.model_cards._text import card_text, table_text

__all__ = ["card_text", "describe_network", "summarise_network", "table_text"]
