"""After the candidates: what makes final answers of them. For `live`, `planning`, `integrations` and above."""
