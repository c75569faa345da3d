"""`python -m sparsevec`: the command line, where its script is not on the path."""

from sparsevec.cli import main

if __name__ == "__main__":
    main()
