"""Language-model numerics (torch and transformers only).

`pad_rows` makes a padded batch of prompts and responses, `token_logprobs` and `sequence_logprobs` read it with a causal
language model.
"""

from prefdata.lm.logprobs import Rows, pad_rows, sequence_logprobs, token_logprobs

__all__ = ["Rows", "pad_rows", "sequence_logprobs", "token_logprobs"]
