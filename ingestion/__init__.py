"""Deliveries into the lake: checked against the contract, typed, and accepted or quarantined.

`loader.load` is the verb. Cleaning that SQL can do belongs into dbt's staging models, not here.
"""
