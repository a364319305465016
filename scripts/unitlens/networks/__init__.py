"""Classifiers and encoders, ready to run."""
