with

identifiers as (
    select * from {{ ref("int_identifiers") }}
),

renamed as (
    select
        identifier_id,
        customer_id,
        source,
        identifier_type,
        identifier,
        first_known_at
    from identifiers
)

select * from renamed
