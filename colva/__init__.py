"""CoLVA: a contrastive multimodal LLM for visual correspondence, its training and its evaluation."""

import logging

# DeepSpeed, which other libraries import where it is installed, says this on standard output on every machine without a
# GPU, into whatever a command prints there
logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
