"""What Qdrant's server and its embedded engine share; their doors are `qdrant.py` and `qdrant_edge.py`."""
