with

candidates as (

    select candidates.*
    from {{ ref('feat_fit_candidates') }} as candidates
    inner join {{ ref('dim_as_ofs') }} as as_ofs
        on candidates.fit_as_of = as_ofs.as_of
    where as_ofs.is_current

),

fits as (

    select * from {{ ref('stg_ml__fits') }}

),

current_as_of as (

    select as_of from {{ ref('dim_as_ofs') }}
    where is_current

),

-- The newest fit made at or before as_of, so that the past is never scored with the future's constants.
eligible as (

    select
        fits.*,
        rank() over (order by fits.fit_as_of desc, fits.fit_version desc) as newness
    from fits
    inner join current_as_of
        on fits.fit_as_of <= current_as_of.as_of

),

kept as (

    select
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
fitted_now as (

    select
        cast(null as bigint) as fit_version,
        fit_as_of,
        metric,
        account_type,
        k,
        value
    from candidates
    where not exists (select 1 from kept)

),

final as (

    select * from kept
    union all
    select * from fitted_now

)

select * from final
