{#- A failure shows rows of a table that lists what somebody has to look at. -#}
{% test is_empty(model) %}

    select * from {{ model }}

{% endtest %}
