with

source as (
    select * from {{ source("state", "lifetime_values") }}
),

renamed as (
    select
        model,
        model_version,
        customer_id,
        method,
        horizon_days,
        expected_orders,
        expected_spend,
        clv,
        clv_low,
        clv_high,
        probability_alive,
        as_of
    from source
)

select * from renamed
