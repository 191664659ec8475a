"""In-memory adapters, a virtual clock and the simulator, for orchx's tests and its users'."""
