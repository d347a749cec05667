"""What people and models say about cases."""
