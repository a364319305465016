"""Activations to concepts."""
