"""Recipes: one YAML file each, run by name."""

from pathlib import Path

RECIPES = Path(__file__).parent
"""The folder that `prefdata run NAME` looks in."""
