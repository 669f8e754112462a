with

source as (
    select * from {{ source("state", "recommendations") }}
),

renamed as (
    select
        model,
        model_version,
        customer_id,
        product_id,
        because_product_id,
        source,
        rank,
        score,
        as_of
    from source
)

select * from renamed
