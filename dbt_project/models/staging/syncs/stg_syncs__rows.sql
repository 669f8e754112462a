with

source as (
    select * from {{ source("syncs", "rows") }}
),

renamed as (
    select
        run_id,
        row_number,
        key,
        action,
        nullif(tag, '') as tag,
        outcome,
        nullif(code, '') as code,
        noted_at
    from source
)

select * from renamed
