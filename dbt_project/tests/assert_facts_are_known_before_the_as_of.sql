-- A failure means that a fact counts something nobody could know at the as_of: the numbers of the past would change.
{% set facts = ["fct_web_events", "fct_web_sessions", "fct_carts", "fct_email_events"] %}

{% for fact in facts %}
select
    '{{ fact }}' as fact,
    facts.known_at
from {{ ref(fact) }} as facts
where facts.known_at >= {{ clock_as_of() }}
{{ "union all" if not loop.last }}
{% endfor %}
