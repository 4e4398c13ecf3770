"""Examples, units and manifests. Installed as `edge.config`, so that `importlib.resources` finds them in a wheel too."""
