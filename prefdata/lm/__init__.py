"""Language-model numerics (torch and transformers only)."""
