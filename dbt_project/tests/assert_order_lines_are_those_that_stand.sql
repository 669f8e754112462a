-- A failure means that the newest versions of orders do not hold the lines that the loader says were not replaced by a
-- later delivery: lines vanished, or are there twice.
with

manifest as (
    select
        source,
        sum(rows_accepted) as lines
    from {{ ref("stg_lake__deliveries") }}
    where
        (source = 'shop' and table_name = 'order_lines')
        or (source = 'pos' and table_name = 'sales')
    group by source
),

newest as (
    select
        source,
        count(*) as lines
    from {{ ref("int_order_lines") }}
    where superseded_at is null
    group by source
)

select
    manifest.source,
    manifest.lines as lines_in_manifest,
    newest.lines as lines_of_orders
from manifest
left join newest on manifest.source = newest.source
where coalesce(newest.lines, 0) <> manifest.lines
