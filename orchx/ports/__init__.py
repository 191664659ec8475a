"""What the engine needs from the outside world: one narrow Protocol per file."""
