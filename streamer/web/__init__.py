"""The worker's web page, health checks and metrics endpoint."""
