"""raymx: MXNet's programming model on a Ray cluster. `import raymx as mx`."""
