"""Which texts are copies of an earlier story."""
