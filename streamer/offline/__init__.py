"""What works without a worker: backtests, replays, and scoring of texts."""
