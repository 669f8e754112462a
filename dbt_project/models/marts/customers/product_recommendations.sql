with

as_ofs as (

    select as_of
    from {{ ref('dim_as_ofs') }}
    where is_current

),

recommendations as (

    select * from {{ ref('stg_ml__recommendations') }}

),

newest_batch as (

    select max(recommendations.as_of) as as_of
    from recommendations
    inner join as_ofs
        on recommendations.as_of <= as_ofs.as_of

),

-- Customers of today: neither who was merged away since, nor who took the permission back.
permitted as (

    select customer_id
    from {{ ref('customer_permissions') }}
    where may_be_profiled

),

products as (

    select * from {{ ref('dim_products') }}

),

final as (

    select
        recommendations.customer_id,
        recommendations.product_id,
        products.name as product_name,
        products.category as product_category,
        recommendations.source,
        recommendations.because_product_id,
        because.name as because_product_name,
        case
            when recommendations.source = 'history' then 'bought or looked at before'
            when because.name is not null then 'because of ' || because.name
            when recommendations.source = 'similar' then 'goes with what was bought'
            when recommendations.source = 'category' and products.category is not null
                then 'popular in ' || products.category
            else 'popular now'
        end as reason,
        recommendations.model_version,
        recommendations.rank,
        recommendations.score,
        recommendations.as_of as scored_at
    from recommendations
    inner join newest_batch
        on recommendations.as_of = newest_batch.as_of
    inner join permitted
        on recommendations.customer_id = permitted.customer_id
    inner join products
        on recommendations.product_id = products.product_id
    left join products as because
        on recommendations.because_product_id = because.product_id
    where
        products.in_stock
        and products.is_goods

)

select * from final
