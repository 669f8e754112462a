-- A failure means that an event counts twice. Only the newest month is looked at: grouping all that ever happened takes
-- longer than making the tables.
{% set facts = ["fct_web_events", "fct_email_events"] %}

{% for fact in facts %}
select
    '{{ fact }}' as fact,
    facts.event_id
from {{ ref(fact) }} as facts
where
    facts.occurred_on >= (
        select cast({{ dbt.dateadd("day", -31, "clock.as_of_on") }} as date)
        from {{ ref("stg_lake__clock") }} as clock
    )
group by facts.event_id
having count(*) > 1
{{ "union all" if not loop.last }}
{% endfor %}
