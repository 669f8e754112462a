with

anchors as (

    select
        as_of,
        as_of_on,
        cast({{ dbt.date_trunc('month', 'as_of_on') }} as date) as last_month_on,
        gap_days
    from {{ ref('feat_anchors') }}

),

recency_counts as (

    select * from {{ ref('feat_recency_counts') }}

),

customers as (

    select
        as_of,
        account_type,
        frequency,
        monetary,
        average_order_value
    from {{ ref('feat_customers') }}
    where frequency > 0

),

-- Recency has a season: its cut points come from the twelve month starts, each with its own window.
recency_by_anchor as (

    select
        anchors.as_of,
        recency_counts.recency_days as value,
        sum(recency_counts.customers) as customers
    from anchors
    inner join recency_counts
        on
            anchors.last_month_on >= recency_counts.month_on
            and recency_counts.month_on > {{ dbt.dateadd('year', -1, 'anchors.last_month_on') }}
    group by
        anchors.as_of,
        recency_counts.recency_days

),

recency_ranks as (

    select
        as_of,
        value,
        customers,
        sum(customers) over (partition by as_of order by value) as last_rank,
        sum(customers) over (partition by as_of) as value_count
    from recency_by_anchor

),

fifths as (

    {% for k in range(1, 5) %}
    select {{ k }} as k
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

-- Nearest rank, (k * n + 4) div 5, in whole numbers: the first value whose ranks reach up to k * n / 5.
recency_cuts as (

    select
        recency_ranks.as_of,
        'recency_days' as metric,
        'all' as account_type,
        fifths.k,
        cast(recency_ranks.value as {{ money() }}) as value
    from recency_ranks
    inner join fifths
        on
            recency_ranks.last_rank * 5 >= fifths.k * recency_ranks.value_count
            and (recency_ranks.last_rank - recency_ranks.customers) * 5 < fifths.k * recency_ranks.value_count

),

lists as (

    select
        as_of,
        'all' as account_type,
        {{ values_at_fifths('cast(frequency as ' ~ money() ~ ')') }} as frequency,
        {{ values_at_fifths('monetary') }} as monetary,
        {{ values_at_fifths('average_order_value') }} as average_order_value
    from customers
    group by as_of

    union all

    select
        as_of,
        account_type,
        null as frequency,
        {{ values_at_fifths('monetary') }} as monetary,
        null as average_order_value
    from customers
    where account_type is not null
    group by
        as_of,
        account_type

),

cuts as (

    {% for metric in ['frequency', 'monetary', 'average_order_value'] %}
    select
        lists.as_of,
        '{{ metric }}' as metric,
        lists.account_type,
        fifths.k,
        {{ array_element('lists.' ~ metric, 'fifths.k') }} as value
    from lists
    cross join fifths
    where lists.{{ metric }} is not null
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

fitted as (

    select * from recency_cuts

    union all

    select * from cuts

    union all

    select
        as_of,
        'repurchase_gap_days' as metric,
        'all' as account_type,
        0 as k,
        cast(gap_days as {{ money() }}) as value
    from anchors

),

final as (

    select
        as_of as fit_as_of,
        metric,
        account_type,
        cast(k as integer) as k,
        cast(value as {{ money() }}) as value
    from fitted

)

select * from final
