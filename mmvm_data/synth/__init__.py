"""Generated videos of moving look-alikes with exact masks, in the layouts of YouTube-VOS and YouTube-VIS."""

from __future__ import annotations

from mmvm_data.synth.writer import SynthOptions, generate, make_scene, make_shots, video_id

__all__ = ["SynthOptions", "generate", "make_scene", "make_shots", "video_id"]
