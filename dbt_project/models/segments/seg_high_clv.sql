with

customers as (

    select
        customer_id,
        order_days,
        clv_365,
        expected_value_365
    from {{ ref('customer_360') }}

),

-- Until the model has scored anybody, what a year has brought stands in for everybody: two scales are not mixed.
valued as (

    select
        customer_id,
        case when count(clv_365) over () > 0 then clv_365 else expected_value_365 end as expected_value
    from customers
    where order_days > 0

),

-- The top share: above the value at its nearest rank, in whole numbers. Equal customers are in or out together.
ranked as (

    select
        customer_id,
        expected_value,
        rank() over (order by expected_value) - 1 as lower_customers,
        count(*) over () as all_customers
    from valued
    where expected_value is not null

),

final as (

    select customer_id
    from ranked
    where
        lower_customers * 100 >= all_customers * (100 - {{ var('high_clv_percent') }})
        and expected_value > 0

)

select * from final
