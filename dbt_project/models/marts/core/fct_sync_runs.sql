with

runs as (
    select * from {{ ref("stg_syncs__runs") }}
),

counted as (
    select
        run_id,
        sum(case when outcome = 'acknowledged' then 1 else 0 end) as acknowledged_rows,
        sum(case when outcome = 'rejected' then 1 else 0 end) as rejected_rows,
        sum(case when outcome = 'withheld' then 1 else 0 end) as withheld_rows
    from {{ ref("stg_syncs__rows") }}
    group by run_id
),

final as (
    select
        runs.run_id,
        runs.release,

        runs.target,
        {{ dbt.split_part("runs.target", "'/'", 1) }} as platform,
        runs.kind,
        runs.plan_hash,
        nullif(runs.overrides, '[]') as overrides,
        runs.outcome,

        cast(coalesce(counted.acknowledged_rows, 0) as bigint) as acknowledged_rows,
        cast(coalesce(counted.rejected_rows, 0) as bigint) as rejected_rows,
        cast(coalesce(counted.withheld_rows, 0) as bigint) as withheld_rows,
        cast({{ dbt.datediff("runs.started_at", "runs.ended_at", "second") }} as bigint) as duration_seconds,

        runs.started_at,
        runs.ended_at
    from runs
    left join counted on runs.run_id = counted.run_id
)

select * from final
