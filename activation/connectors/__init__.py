"""One file per platform: translates between contacts and its API, and knows nothing of consent or ledger."""
