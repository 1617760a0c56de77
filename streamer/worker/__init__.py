"""The worker: the Kafka shell around the functional core."""
