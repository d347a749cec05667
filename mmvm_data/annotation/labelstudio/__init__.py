"""What review and track drawing share of Label Studio: client, server, sync, shapes."""
