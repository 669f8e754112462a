with

as_ofs as (

    select * from {{ ref('dim_as_ofs') }}

),

gaps as (

    select * from {{ ref('fits_in_force') }}
    where metric = 'repurchase_gap_days'

),

final as (

    select
        gaps.as_of,
        as_ofs.as_of_on,
        as_ofs.is_current,
        gaps.fit_version,
        cast(gaps.value as integer) as gap_days,
        cast(greatest(gaps.value * {{ var('active_gaps') }}, {{ var('active_days_min') }}) as integer) as active_days,
        cast(gaps.value * {{ var('dormant_gaps') }} as integer) as dormant_days,
        cast(gaps.value * {{ var('lost_gaps') }} as integer) as lost_days
    from gaps
    inner join as_ofs
        on gaps.as_of = as_ofs.as_of

)

select * from final
