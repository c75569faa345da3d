"""What the right answer is: reference, local engine, verify. Stands on `contract`; `answers`, `live` and above come in."""
