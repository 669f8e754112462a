with

buyers as (

    select
        customer_id,
        expected_value_365
    from {{ ref('customer_360') }}
    where order_days > 0

),

-- Top 10 %: above the value at nearest rank 90 %, in whole numbers. Equal customers are in or out together.
ranked as (

    select
        customer_id,
        expected_value_365,
        rank() over (order by expected_value_365) - 1 as lower_customers,
        count(*) over () as all_customers
    from buyers

),

final as (

    select customer_id
    from ranked
    where
        lower_customers * 10 >= all_customers * 9
        and expected_value_365 > 0

)

select * from final
