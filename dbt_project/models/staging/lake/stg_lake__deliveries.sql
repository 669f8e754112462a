with

source as (
    select * from {{ source("lake", "deliveries") }}
),

renamed as (
    select
        delivery_id,
        sequence,
        source,
        table_name,
        content_hash,
        file_names,
        notices,
        rows_read,
        rows_accepted,
        rows_superseded,
        rows_rejected,
        rows_erased,
        historical as is_historical,
        received_at
    from source
)

select * from renamed
