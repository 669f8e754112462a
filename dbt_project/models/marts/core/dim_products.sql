with

-- Two spellings of one stock code are one product; the later row is right.
products as (
    select products.*
    from {{ ref("stg_shop__products") }} as products
    where products.known_at < {{ clock_as_of() }}
    qualify row_number() over (
        partition by products.product_id order by products.sequence desc, products.row_number desc
    ) = 1
),

-- A product that was sold is a product, whether or not the catalogue still has it. What the catalogue says in full need
-- not be looked for among the lines.
lines as (
    select
        lines.product_id,
        lines.description,
        lines.unit_price,
        lines.is_goods
    from {{ ref("int_delivered_lines") }} as lines
    left join products
        on
            lines.product_id = products.product_id
            and products.name is not null
            and products.unit_price is not null
    inner join {{ ref("int_order_document_versions") }} as documents
        on
            lines.source = documents.source
            and lines.order_id = documents.order_id
            and lines.sequence = documents.line_sequence
    where
        products.product_id is null
        and {{ stands_at("documents", clock_as_of()) }}
        and (lines.occurred_at is null or lines.occurred_at < {{ clock_as_of() }})
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
