{% macro array_size(array) -%}
    {#- Number of elements. -#}
    {{ return(adapter.dispatch("array_size", "mailwright")(array)) }}
{%- endmacro %}

{% macro duckdb__array_size(array) -%}
    len({{ array }})
{%- endmacro %}
