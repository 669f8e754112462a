{#-
    The models of models/segments, by name, so that a segment is one file and no list of them is kept.

    Found in the manifest's list of files because dbt learns a model's dependencies while parsing, when `graph` is still
    empty. It holds the whole list only as long as dbt parses the project whole (`partial_parse: false`).
-#}
{% macro segment_models() -%}
    {%- set names = [] -%}
    {%- for file in ref.manifest.files.values() -%}
        {%- set path = file.path.relative_path -%}
        {%- if path.startswith("segments/") and path.endswith(".sql") -%}
            {%- do names.append(path.rpartition("/")[2] | replace(".sql", "")) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(names | sort) }}
{%- endmacro %}

{% macro sorted_list(value) -%}
    {#- All values of a group as a list in their own order. -#}
    {{ return(adapter.dispatch("sorted_list", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__sorted_list(value) -%}
    list({{ value }} order by {{ value }})
{%- endmacro %}

{% macro empty_list() -%}
    {{ return(adapter.dispatch("empty_list", "mailwright")()) }}
{%- endmacro %}

{% macro duckdb__empty_list() -%}
    cast([] as varchar[])
{%- endmacro %}
