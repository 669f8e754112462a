with

source as (
    {{ accepted_rows("shop", "exchange_rates") }}
),

renamed as (
    select
        upper(trim(from_currency)) as from_currency,
        upper(trim(to_currency)) as to_currency,

        rate,

        rate_on,

        known_at
    from source
)

select * from renamed
