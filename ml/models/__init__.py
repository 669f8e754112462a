"""The models, one file each: what is asked, of whom, from which features, and what it has to beat. No fitting here."""
