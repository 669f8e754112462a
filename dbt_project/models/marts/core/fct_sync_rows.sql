with

sync_rows as (
    select * from {{ ref("stg_syncs__rows") }}
),

runs as (
    select * from {{ ref("stg_syncs__runs") }}
),

-- Of a run that is still being written down, the rows come before the run.
final as (
    select
        sync_rows.run_id,
        sync_rows.row_number,

        runs.target,
        sync_rows.key,
        sync_rows.action,
        sync_rows.tag,
        sync_rows.outcome,
        sync_rows.code,

        sync_rows.noted_at
    from sync_rows
    inner join runs on sync_rows.run_id = runs.run_id
)

select * from final
