with

as_ofs as (

    select * from {{ ref('dim_as_ofs') }}

),

current_as_of as (

    select * from as_ofs
    where is_current

),

horizons as (

    {% for days in [30, 90, 180, 365] %}
    select {{ days }} as horizon_days
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

final as (

    select
        as_ofs.as_of,
        as_ofs.as_of_on,
        cast(horizons.horizon_days as integer) as horizon_days,
        cast({{ dbt.dateadd('day', 'horizons.horizon_days', 'as_ofs.as_of_on') }} as date) as closes_on,
        {{ local_midnight(dbt.dateadd('day', 'horizons.horizon_days', 'as_ofs.as_of_on')) }} as closes_at
    from as_ofs
    cross join horizons
    cross join current_as_of
    where {{ dbt.datediff('as_ofs.as_of_on', 'current_as_of.as_of_on', 'day') }} >= horizons.horizon_days

)

select * from final
