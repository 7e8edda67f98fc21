"""The labelling application: not built yet."""
