"""Prompts and ranked responses that come with the package; see README.md here."""
