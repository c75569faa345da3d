"""For tests: engines to run against (`plugin`), and the suite that every adapter must pass (`conformance`).

Stands on `contract` and `exact`; only tests come in.
"""
