with

source as (
    {{ accepted_deliveries("shop", "products") }}
),

renamed as (
    select
        {{ product_key("product_id") }} as product_id,
        delivery_id,
        row_number,

        {{ text("name") }} as name,
        {{ text("category") }} as category,
        {{ text("brand") }} as brand,
        upper(trim(currency)) as currency,
        {{ text("url") }} as url,
        {{ text("image_url") }} as image_url,
        attributes,

        unit_price,
        sequence,

        coalesce(in_stock, true) as in_stock,
        coalesce(is_goods, true) as is_goods,
        coalesce(is_consumable, false) as is_consumable,

        updated_at,
        known_at
    from source
)

select * from renamed
