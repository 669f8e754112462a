with

source as (
    select * from {{ source("lake", "segments_set_aside") }}
),

renamed as (
    select
        segment,
        file,
        reason,
        cadence,
        checksum,
        fresh_at
    from source
)

select * from renamed
