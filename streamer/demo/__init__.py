"""The demo: a bundled news stream, its true surges, and `bearwire demo`, which replays it through a worker."""
