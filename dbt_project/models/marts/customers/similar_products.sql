with

as_ofs as (

    select as_of
    from {{ ref('dim_as_ofs') }}
    where is_current

),

similarities as (

    select * from {{ ref('stg_ml__similar_products') }}

),

newest_batch as (

    select max(similarities.as_of) as as_of
    from similarities
    inner join as_ofs
        on similarities.as_of <= as_ofs.as_of

),

products as (

    select * from {{ ref('dim_products') }}

),

final as (

    select
        similarities.product_id,
        similarities.similar_product_id,
        offered.name as similar_product_name,
        offered.category as similar_product_category,
        similarities.model_version,
        similarities.rank,
        similarities.similarity,
        similarities.as_of as scored_at
    from similarities
    inner join newest_batch
        on similarities.as_of = newest_batch.as_of
    inner join products
        on similarities.product_id = products.product_id
    inner join products as offered
        on similarities.similar_product_id = offered.product_id
    where
        offered.in_stock
        and offered.is_goods

)

select * from final
