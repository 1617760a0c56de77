"""What identifies a person, found in a text and taken out of it."""
