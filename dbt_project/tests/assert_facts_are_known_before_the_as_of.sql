-- A failure means that a fact counts something nobody could know at the as_of: the numbers of the past would change.
{% set facts = ["fct_web_events", "fct_web_sessions", "fct_email_events"] %}

{% for fact in facts %}
select
    '{{ fact }}' as fact,
    facts.known_at
from {{ ref(fact) }} as facts
inner join {{ ref("stg_lake__clock") }} as clock on facts.known_at >= clock.as_of
{{ "union all" if not loop.last }}
{% endfor %}
