<<<<<<< HEAD
"""What the right answer is: reference, local engine, verify. For `ingestion`, `answers`, `live` and above."""
=======
"""What the right answer is: reference, local engine, verify. Stands on `contract`; `answers` and above come in."""
>>>>>>> exact
