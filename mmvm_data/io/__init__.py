"""Files, images, videos, remote storage, processes, the terminal and HTTP clients."""
