-- A failure means that staging's idea of which order lines were replaced by a later delivery is not the loader's.
with

manifest as (
    select sum(rows_accepted) as lines
    from {{ ref("stg_lake__deliveries") }}
    where source = 'shop' and table_name = 'order_lines'
),

staged as (
    select count(*) as lines
    from {{ ref("stg_shop__order_lines") }}
)

select
    manifest.lines as lines_in_manifest,
    staged.lines as lines_in_staging
from manifest
cross join staged
where manifest.lines <> staged.lines
