with

source as (
    select * from {{ source("state", "category_affinities") }}
),

renamed as (
    select
        model,
        model_version,
        customer_id,
        category,
        rank,
        affinity,
        as_of
    from source
)

select * from renamed
