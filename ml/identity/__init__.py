"""Who is who: links between person records, scored by a model without labels, resolved into stable customers."""
