"""The plain asyncio classes that run workflows; the Ray shells in orchx.actors wrap them."""
