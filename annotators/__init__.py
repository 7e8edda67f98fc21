"""The operator `judge`, one module per kind of annotator. Importing this registers the steps `judge.*`."""

from prefdata.cards import Card, load_card, shipped_cards

from .compare import Compare
from .label_probs import LabelProbs
from .likelihood import Likelihood
from .rules import Rules
from .score import Score

__all__ = ["Card", "Compare", "LabelProbs", "Likelihood", "Rules", "Score", "load_card", "shipped_cards"]
