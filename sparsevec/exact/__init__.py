"""What the right answer is: reference, local engine, verify. For `ingestion`, `answers`, `live` and above."""
