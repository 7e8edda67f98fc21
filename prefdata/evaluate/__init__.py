"""What a trained policy or reward model is worth, on preferences that it was not trained on.

- `measures`: accuracies by aspect and annotator, ranking accuracy and its ideal, best-of-n, calibration
- `scoring`: a model's numbers for every response of an export
- `rows`: those numbers as annotations, in a file or in the dataset
- `tokens`: numbers of single tokens, which the trainer takes as a reference
"""

from prefdata.evaluate.run import Evaluation, evaluate
from prefdata.evaluate.scoring import Settings

__all__ = ["Evaluation", "Settings", "evaluate"]
