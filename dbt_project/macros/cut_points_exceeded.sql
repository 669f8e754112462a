{#- How many of a fit's four cut points a value exceeds, 0 to 4. A cut point that is missing is not exceeded. -#}
{% macro cut_points_exceeded(value, cuts) -%}
    (
        {%- for k in range(1, 5) %}
        case when {{ value }} > {{ cuts }}.cut_{{ k }} then 1 else 0 end{{ " +" if not loop.last }}
        {%- endfor %}
    )
{%- endmacro %}
