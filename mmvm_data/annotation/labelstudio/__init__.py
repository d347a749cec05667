"""What reviews and tracks share of Label Studio: client, tasks, shapes, revisions."""
