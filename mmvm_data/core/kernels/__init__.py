"""Loops over run lengths and border pixels that Numba compiles; ``io.kernel_cache`` imports them, where they pay.

Each does what array operations of ``rle``, ``masks`` and ``polygons`` do, which run without Numba and which tests
compare with. They leave Python's lock, so that the threads of a worker run beside them.
"""

from mmvm_data.core.kernels.outlines import trace
from mmvm_data.core.kernels.run_lengths import decode, measure

__all__ = ["decode", "measure", "trace"]
