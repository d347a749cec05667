"""Checkpoints: reading what others wrote, and writing our own."""
