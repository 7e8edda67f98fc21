"""Recipes: one YAML file each, run by name."""
