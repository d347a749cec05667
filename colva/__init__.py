"""CoLVA: a contrastive multimodal LLM for visual correspondence, its training and its evaluation."""
