"""What a model's folder is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from colva.evaluation.models.checkpoint_path import model_name


@pytest.mark.parametrize(
    ("folder", "name"),
    [("runs/stage2/final", "stage2"), ("models/tiny", "tiny"), ("final/tiny", "tiny"), ("stage2/final/.", "stage2")],
)
def test_trained_weights_are_called_as_their_run(folder: str, name: str, tmp_path: Path) -> None:
    assert model_name(tmp_path / folder) == name


def test_a_relative_path_and_the_root_have_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stage2" / "final").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "stage2")
    assert model_name(Path("final")) == "stage2"
    monkeypatch.chdir(tmp_path / "stage2" / "final")
    assert model_name(Path()) == "stage2"
    assert model_name(Path("/final")) == "final"
