with

source as (
    select * from {{ source("state", "scores") }}
),

renamed as (
    select
        model,
        model_version,
        customer_id,
        label,
        reason_1,
        reason_2,
        reason_3,
        score,
        low,
        high,
        as_of
    from source
)

select * from renamed
