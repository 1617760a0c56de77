"""The configuration: its keys and types, where values come from, and what is wrong with them."""
