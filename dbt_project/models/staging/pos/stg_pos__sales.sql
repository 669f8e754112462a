with

source as (
    {{ accepted_rows("pos", "sales", lines=true) }}
),

renamed as (
    select
        sale_id,
        line_number,
        store_id,
        nullif(trim(customer_ref), '') as customer_ref,
        {{ product_key("product_id") }} as product_id,
        delivery_id,
        row_number,

        {{ email_address("email") }} as email,
        description,
        upper(trim(currency)) as currency,

        quantity,
        unit_price,
        coalesce(discount, 0) as discount,

        is_goods,

        sold_at,
        known_at
    from source
)

select * from renamed
