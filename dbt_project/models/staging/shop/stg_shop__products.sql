with

source as (
    {{ accepted_rows("shop", "products") }}
),

renamed as (
    select
        {{ product_key("product_id") }} as product_id,

        {{ text("name") }} as name,
        {{ text("category") }} as category,
        {{ text("brand") }} as brand,
        upper(trim(currency)) as currency,
        {{ text("url") }} as url,
        {{ text("image_url") }} as image_url,
        attributes,

        unit_price,

        coalesce(in_stock, true) as in_stock,
        coalesce(is_goods, true) as is_goods,
        coalesce(is_consumable, false) as is_consumable,

        updated_at,
        known_at
    from source
    -- Two spellings of one stock code are one product; the later row is right.
    qualify row_number() over (
        partition by {{ product_key("product_id") }} order by sequence desc, row_number desc
    ) = 1
)

select * from renamed
