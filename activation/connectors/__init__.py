"""One file per platform. Each fulfils `activation.destination.Destination` and knows nothing of consent or ledger."""
