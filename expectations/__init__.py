"""Great Expectations suites over what is delivered, staging, identity and the marts, their runner and the data docs.

`suites/` holds a file for each guarded table that has rules of its own, in terms of `rules`; what the contract tells of a
table needs none. `history` measures deliveries against earlier ones, `runner` runs suites inside DuckDB through `kinds`,
`results` keeps what was found, `deliveries` gathers what became of each delivery, and `data_docs` shows both. Rules that
dbt's own tests hold already do not belong here.
"""
