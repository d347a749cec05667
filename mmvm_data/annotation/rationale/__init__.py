"""Cues and rationales: why the answer of a case is right."""
