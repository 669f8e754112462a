with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

asked as (
    select distinct
        currency,
        ordered_on,
        rates_known_at
    from {{ ref("int_order_document_versions") }}
    where rates_known_at is not null
),

-- Of two deliveries of a day's rate the later is right, once it is known.
rates as (
    select
        exchange_rates.from_currency as currency,
        exchange_rates.rate_on,
        exchange_rates.rate,
        exchange_rates.sequence,
        exchange_rates.known_at
    from {{ ref("stg_shop__exchange_rates") }} as exchange_rates
    inner join clock on exchange_rates.to_currency = clock.currency
),

answered as (
    select
        asked.currency,
        asked.ordered_on,
        asked.rates_known_at,
        rates.rate as rate_to_base
    from asked
    inner join rates
        on asked.currency = rates.currency and asked.rates_known_at >= rates.known_at
    qualify row_number() over (
        partition by asked.currency, asked.ordered_on, asked.rates_known_at
        order by
            case when rates.rate_on <= asked.ordered_on then 0 else 1 end,
            abs({{ dbt.datediff("rates.rate_on", "asked.ordered_on", "day") }}),
            rates.sequence desc
    ) = 1
)

select * from answered
