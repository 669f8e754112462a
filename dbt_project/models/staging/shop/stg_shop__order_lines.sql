with

source as (
    {{ accepted_deliveries("shop", "order_lines") }}
),

renamed as (
    select
        order_id,
        line_number,
        nullif(trim(customer_ref), '') as customer_ref,
        {{ product_key("product_id") }} as product_id,
        delivery_id,
        row_number,

        description,
        upper(trim(currency)) as currency,

        quantity,
        unit_price,
        coalesce(discount, 0) as discount,
        coalesce(tax, 0) as tax,
        sequence,

        is_goods,
        coalesce(is_cancellation, false) as is_cancellation,
        coalesce(is_adjustment, false) as is_adjustment,

        occurred_at,
        received_at,
        known_at
    from source
)

select * from renamed
