"""The backends of sparsevec, installed as the package `sparsevec_adapters`."""

if __name__ != "sparsevec_adapters":
    raise ImportError("this folder is the package sparsevec_adapters; install it with: pip install -e '.[all]'")
