-- A failure means that a pair of recency and frequency scores has no cell in the grid, or more than one.
with

scores as (

    {% for score in range(1, 6) %}
    select {{ score }} as score
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

cells as (

    select
        recency.score as r_score,
        frequency.score as f_score,
        count(grid.rfm_segment) as occurrences
    from scores as recency
    cross join scores as frequency
    left join {{ ref('rfm_grid') }} as grid
        on
            recency.score = grid.r_score
            and frequency.score = grid.f_score
    group by
        recency.score,
        frequency.score

)

select * from cells
where occurrences != 1
