-- A failure means that staging's idea of which order lines were replaced by a later delivery is not the loader's. Only
-- where everything delivered is known at the as_of: the loader knows no as_of.
with

deliveries as (
    select deliveries.*
    from {{ ref("stg_lake__deliveries") }} as deliveries
    where deliveries.source = 'shop' and deliveries.table_name = 'order_lines'
),

manifest as (
    select
        sum(deliveries.rows_accepted) as lines,
        count(
            case when not deliveries.is_historical and deliveries.received_at >= clock.as_of then 1 end
        ) as deliveries_beyond_clock
    from deliveries
    cross join {{ ref("stg_lake__clock") }} as clock
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
where manifest.lines <> staged.lines and manifest.deliveries_beyond_clock = 0
