with

as_ofs as (

    select as_of from {{ ref('dim_as_ofs') }}

),

candidates as (

    select * from {{ ref('feat_fit_candidates') }}

),

fits as (

    select * from {{ ref('stg_ml__fits') }}

),

-- The newest fit made at or before each as_of, so that the past is never scored with the future's constants.
eligible as (

    select
        as_ofs.as_of,
        fits.fit_version,
        fits.fit_as_of,
        fits.metric,
        fits.account_type,
        fits.k,
        fits.value,
        rank() over (partition by as_ofs.as_of order by fits.fit_as_of desc, fits.fit_version desc) as newness
    from as_ofs
    inner join fits
        on as_ofs.as_of >= fits.fit_as_of

),

kept as (

    select
        as_of,
        fit_version,
        fit_as_of,
        metric,
        account_type,
        k,
        value
    from eligible
    where newness = 1

),

-- With none kept, one is fitted at as_of.
fitted_then as (

    select
        as_ofs.as_of,
        cast(null as bigint) as fit_version,
        candidates.fit_as_of,
        candidates.metric,
        candidates.account_type,
        candidates.k,
        candidates.value
    from candidates
    inner join as_ofs
        on candidates.fit_as_of = as_ofs.as_of
    where not exists (
        select 1
        from kept
        where kept.as_of = as_ofs.as_of
    )

),

final as (

    select * from kept
    union all
    select * from fitted_then

)

select * from final
