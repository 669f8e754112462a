"""Reverse ETL: releases, plan, apply, the ledger, one connector per platform, and the sandbox platforms.

What a segment means does not belong here; neither does anything that opens the warehouse, freezing a release apart.
"""
