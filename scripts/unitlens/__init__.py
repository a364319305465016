"""Unitlens: what the units of an image classifier respond to, and what its predictions look at."""

__version__ = "0.1.0"
