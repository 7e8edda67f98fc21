"""The operator `judge`, one module per kind of annotator. Importing this registers the steps `judge.*`."""

from prefdata.cards import Card, load_card, shipped_cards

from .choose import Choose
from .code_tests import CodeTests
from .compare import Compare
from .compare_joint import CompareJoint
from .confident import Confident
from .conflicts import Conflicts
from .consistency import Consistency
from .contamination import Contamination
from .critique import Critique
from .debate import Debate
from .density_ratio import DensityRatio
from .difficulty import Difficulty
from .displacement import Displacement
from .duplicates import Duplicates
from .embedding import Embedding
from .follow_up import FollowUp
from .heuristics import Heuristics
from .label import Label
from .label_noise import LabelNoise
from .label_probs import LabelProbs
from .likelihood import Likelihood
from .pair_quality import PairQuality
from .rank import Rank
from .rationale import Rationale
from .reward import Reward
from .reward_votes import RewardVotes
from .routing_gain import RoutingGain
from .rules import Rules
from .score import Score
from .self_preference import SelfPreference
from .self_reference import SelfReference
from .selfie import Selfie
from .simulated import Simulated
from .spread import Spread
from .together import ScoreTogether
from .vectors import Vectors
from .verify import Verify

__all__ = [
    "Card",
    "Choose",
    "CodeTests",
    "Compare",
    "CompareJoint",
    "Confident",
    "Conflicts",
    "Consistency",
    "Contamination",
    "Critique",
    "Debate",
    "DensityRatio",
    "Difficulty",
    "Displacement",
    "Duplicates",
    "Embedding",
    "FollowUp",
    "Heuristics",
    "Label",
    "LabelNoise",
    "LabelProbs",
    "Likelihood",
    "PairQuality",
    "Rank",
    "Rationale",
    "Reward",
    "RewardVotes",
    "RoutingGain",
    "Rules",
    "Score",
    "ScoreTogether",
    "SelfPreference",
    "SelfReference",
    "Selfie",
    "Simulated",
    "Spread",
    "Vectors",
    "Verify",
    "load_card",
    "shipped_cards",
]
