with

source as (
    select * from {{ source("syncs", "runs") }}
),

renamed as (
    select
        run_id,
        release,
        target,
        kind,
        plan_hash,
        overrides,
        outcome,
        started_at,
        ended_at
    from source
)

select * from renamed
