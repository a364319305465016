"""Bytes on disk: arrays, tables, archives, downloads."""
