with

source as (
    {{ accepted_deliveries("shop", "exchange_rates") }}
),

renamed as (
    select
        delivery_id,
        row_number,

        upper(trim(from_currency)) as from_currency,
        upper(trim(to_currency)) as to_currency,

        rate,
        sequence,

        rate_on,

        known_at
    from source
)

select * from renamed
