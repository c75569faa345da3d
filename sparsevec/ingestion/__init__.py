"""Writing, accounted: read `ingest` first. Stands on `contract`; `live`, `cli`, `demo` and your pipeline come in."""
