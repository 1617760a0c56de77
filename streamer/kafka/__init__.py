"""What several commands and the worker do with Kafka."""
