"""After the candidates: what makes final answers of them. May be imported by `live`, `planning`, guests and above."""
