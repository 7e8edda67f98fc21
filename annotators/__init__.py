"""The operator `judge`, one module per kind of annotator. Importing this registers the steps `judge.*`."""

from prefdata.cards import Card, load_card, shipped_cards

from .choose import Choose
from .code_tests import CodeTests
from .compare import Compare
from .critique import Critique
from .debate import Debate
from .density_ratio import DensityRatio
from .embedding import Embedding
from .follow_up import FollowUp
from .label import Label
from .label_probs import LabelProbs
from .likelihood import Likelihood
from .pair_quality import PairQuality
from .rank import Rank
from .rationale import Rationale
from .reward import Reward
from .rules import Rules
from .score import Score
from .self_preference import SelfPreference
from .self_reference import SelfReference
from .together import ScoreTogether
from .verify import Verify

__all__ = [
    "Card",
    "Choose",
    "CodeTests",
    "Compare",
    "Critique",
    "Debate",
    "DensityRatio",
    "Embedding",
    "FollowUp",
    "Label",
    "LabelProbs",
    "Likelihood",
    "PairQuality",
    "Rank",
    "Rationale",
    "Reward",
    "Rules",
    "Score",
    "ScoreTogether",
    "SelfPreference",
    "SelfReference",
    "Verify",
    "load_card",
    "shipped_cards",
]
