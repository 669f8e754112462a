with

source as (
    select * from {{ source("state", "similar_products") }}
),

renamed as (
    select
        model,
        model_version,
        product_id,
        similar_product_id,
        rank,
        similarity,
        as_of
    from source
)

select * from renamed
