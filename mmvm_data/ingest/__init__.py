"""Raw video to tracks: shots, frames worth drawing on, a Label Studio project, and the way back."""
