"""Raw clips: cut into shots, annotated with tracks, propagated with SAM 2."""
