with

clock as (
    select * from {{ ref("stg_lake__clock") }}
),

products as (
    select * from {{ ref("stg_shop__products") }}
),

-- A product that was sold is a product, whether or not the catalogue still has it.
lines as (
    select
        order_lines.product_id,
        order_lines.description,
        order_lines.unit_price,
        order_lines.is_goods
    from {{ ref("stg_shop__order_lines") }} as order_lines
    inner join clock on order_lines.known_at < clock.as_of

    union all

    select
        sales.product_id,
        sales.description,
        sales.unit_price,
        sales.is_goods
    from {{ ref("stg_pos__sales") }} as sales
    inner join clock on sales.known_at < clock.as_of
),

descriptions as (
    select
        product_id,
        description,
        count(*) as uses
    from lines
    group by
        product_id,
        description
),

names as (
    select
        product_id,
        {{ text("description") }} as name
    from descriptions
    qualify row_number() over (
        partition by product_id
        order by case when description is null then 1 else 0 end, uses desc, description
    ) = 1
),

sold as (
    select
        product_id,
        max(case when unit_price > 0 then unit_price end) as unit_price,
        {{ dbt.bool_or("coalesce(is_goods, true)") }} as is_goods
    from lines
    group by product_id
),

combined as (
    select
        coalesce(products.product_id, sold.product_id) as product_id,
        coalesce(products.name, names.name) as name,
        products.category,
        products.brand,
        products.url,
        products.image_url,
        coalesce(products.unit_price, sold.unit_price) as unit_price,
        coalesce(products.in_stock, true) as in_stock,
        coalesce(products.is_goods, sold.is_goods) as is_goods,
        coalesce(products.is_consumable, false) as is_consumable
    from products
    full outer join sold on products.product_id = sold.product_id
    left join names on sold.product_id = names.product_id
)

select * from combined
