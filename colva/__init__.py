"""CoLVA: object-level visual correspondence with a multimodal language model."""
