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
        score,
        as_of
    from source
)

select * from renamed
