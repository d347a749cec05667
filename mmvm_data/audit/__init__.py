"""What a benchmark gives away, what it holds twice, what it shares with another, and how two builds differ."""
