"""Answers of a loaded model: generation, option likelihood, chat."""
