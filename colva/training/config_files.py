"""Finds configuration files: by path, or by name among those that come with the package."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mmvm_data.core.errors import UsageError

SHIPPED_PACKAGE = "colva_configs"
"""Where an installed package keeps the files; a checkout has them in `configs/`."""
_HARDWARE = "# hardware:"


@dataclass(frozen=True)
class ShippedConfig:
    """A configuration that comes with the package.

    Attributes:
        name: such as `finetune/internvl2_4b_radio`.
        path: of its file.
        title: the first line of its comment.
        hardware: what it needs, from the comment that starts with `# hardware:`; "" when it has none.
    """

    name: str
    path: Path
    title: str
    hardware: str


def find_config(name: str | Path) -> Path:
    """The file of a configuration.

    Args:
        name: a path, or the name of a shipped configuration, such as `finetune/internvl2_4b_radio`.

    Raises:
        UsageError: neither a file nor a shipped configuration; the message lists these.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = {config.name: config.path for config in list_shipped_configs()}
    key = path.with_suffix("").as_posix() if path.suffix in (".yaml", ".yml") else path.as_posix()
    key = key.removeprefix("configs/")
    if key in known:
        return known[key]
    similar = difflib.get_close_matches(key, known, n=1)
    suggestion = f"; did you mean {similar[0]}?" if similar else ""
    lines = "".join(f"\n  {name}" for name in known)
    raise UsageError(f"{name}: neither a file nor a shipped configuration{suggestion}; shipped configurations:{lines}")


def list_shipped_configs() -> list[ShippedConfig]:
    """The configurations that come with the package, by name."""
    root = _shipped_dir()
    return [_read_header(root, path) for path in sorted(root.glob("*/*.yaml"))]


def _shipped_dir() -> Path:
    checkout = Path(__file__).resolve().parents[2] / "configs"
    if checkout.is_dir():
        return checkout
    spec = find_spec(SHIPPED_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"the shipped configurations are missing: reinstall the package ({SHIPPED_PACKAGE})")
    return Path(next(iter(spec.submodule_search_locations)))


def _read_header(root: Path, path: Path) -> ShippedConfig:
    comments = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line)
    hardware = next((line.removeprefix(_HARDWARE).strip() for line in comments if line.startswith(_HARDWARE)), "")
    title = comments[0].removeprefix("#").strip() if comments else ""
    return ShippedConfig(path.relative_to(root).with_suffix("").as_posix(), path, title, hardware)
