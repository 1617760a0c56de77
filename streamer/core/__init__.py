"""The pure core: what decides about documents, without clock, network, files or threads."""
