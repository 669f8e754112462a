{#- One value over another to four places, as a decimal, so that it is the same each time; null over nothing. -#}
{% macro ratio(value, whole) -%}
    cast(round({{ value }} / nullif({{ whole }}, 0), 4) as {{ money() }})
{%- endmacro %}
