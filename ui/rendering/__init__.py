"""Hostile text to safe HTML, on the server."""
