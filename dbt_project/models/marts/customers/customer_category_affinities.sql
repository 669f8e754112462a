with

as_ofs as (

    select as_of
    from {{ ref('dim_as_ofs') }}
    where is_current

),

affinities as (

    select * from {{ ref('stg_ml__category_affinities') }}

),

newest_batch as (

    select max(affinities.as_of) as as_of
    from affinities
    inner join as_ofs
        on affinities.as_of <= as_ofs.as_of

),

-- Customers of today: neither who was merged away since, nor who took the permission back.
permitted as (

    select customer_id
    from {{ ref('customer_permissions') }}
    where may_be_profiled

),

final as (

    select
        affinities.customer_id,
        affinities.category,
        affinities.model_version,
        affinities.rank,
        affinities.affinity,
        affinities.as_of as scored_at
    from affinities
    inner join newest_batch
        on affinities.as_of = newest_batch.as_of
    inner join permitted
        on affinities.customer_id = permitted.customer_id

)

select * from final
