{#-
    The slice that a model of materialization `spine` is being made for, as constants: see macros/materializations/spine.sql.
    Each column has a macro of its own, so that a unit test can put a value in its place.
-#}

{% macro slice_value(column, data_type) -%}
    {#- A column of the slice. Outside of the materialization it is null. -#}
    {{ return(adapter.dispatch("slice_value", "mailwright")(column, data_type)) }}
{%- endmacro %}

{% macro duckdb__slice_value(column, data_type) -%}
    cast(getvariable('slice_{{ column }}') as {{ data_type }})
{%- endmacro %}

{% macro set_slice_value(column, value) -%}
    {{ return(adapter.dispatch("set_slice_value", "mailwright")(column, value)) }}
{%- endmacro %}

{% macro duckdb__set_slice_value(column, value) -%}
    set variable slice_{{ column }} = '{{ value }}'
{%- endmacro %}

{% macro slice_as_of() -%} {{ slice_value("as_of", "timestamp") }} {%- endmacro %}

{% macro slice_as_of_on() -%} {{ slice_value("as_of_on", "date") }} {%- endmacro %}

{% macro slice_horizon_days() -%} {{ slice_value("horizon_days", "integer") }} {%- endmacro %}

{% macro slice_closes_on() -%} {{ slice_value("closes_on", "date") }} {%- endmacro %}

{% macro slice_closes_at() -%} {{ slice_value("closes_at", "timestamp") }} {%- endmacro %}
