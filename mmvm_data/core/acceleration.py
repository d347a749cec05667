"""The compiled loops of this process, where ``io.kernel_cache`` has loaded them.

What they compute is the same to the bit as without them.
"""

from __future__ import annotations

from types import ModuleType

_kernels: ModuleType | None = None


def loaded_kernels() -> ModuleType | None:
    """Return the package ``kernels``; None where array operations of NumPy do its work."""
    return _kernels


def use_kernels(kernels: ModuleType | None) -> ModuleType | None:
    """Use ``kernels`` from here on, or NumPy; return what was used before."""
    global _kernels
    before, _kernels = _kernels, kernels
    return before
