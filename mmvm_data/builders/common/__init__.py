"""Helpers that several readers share; nothing in here is a reader."""
