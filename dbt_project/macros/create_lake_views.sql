{#-
    Makes every source readable, whether or not anything was ever delivered to it: a view over the source's Parquet
    files, or a typed view without rows. Columns come from the sources' YAML, so a file that is older than a column
    shows it as null.

    Sources by schema: `lake_<source>` are accepted deliveries, `lake` the lake's own records, `state` what Python wrote.
-#}
{% macro create_lake_views() -%}
    {%- if execute and flags.WHICH in ("run", "build", "test", "seed", "show", "snapshot") -%}
        {{ return(adapter.dispatch("create_lake_views", "mailwright")()) }}
    {%- endif -%}
{%- endmacro %}

{% macro duckdb__create_lake_views() -%}
    {%- set home = target.path.rpartition("/")[0] | replace("'", "''") -%}
    {%- set present = lake_folders(home) -%}
    {%- set statements = [] -%}
    {%- for schema in graph.sources.values() | map(attribute="schema") | unique | sort -%}
        {%- do statements.append("create schema if not exists " ~ schema) -%}
    {%- endfor -%}
    {%- for source in graph.sources.values() | sort(attribute="unique_id") -%}
        {%- if source.schema == "lake" -%}
            {%- set file = source.name ~ (".json" if source.name == "clock" else ".parquet") -%}
            {%- set path = home ~ "/" ~ ("" if source.name == "clock" else "lake/") ~ file -%}
            {%- set is_present = path in present -%}
        {%- else -%}
            {%- set under = "state/" if source.schema == "state" else "lake/accepted/" ~ source.source_name ~ "/" -%}
            {%- set path = home ~ "/" ~ under ~ source.name ~ "/*.parquet" -%}
            {%- set is_present = (home ~ "/" ~ under ~ source.name) in present -%}
        {%- endif -%}
        {%- do statements.append(lake_view(source, path, is_present)) -%}
    {%- endfor -%}
    {%- if home ~ "/clock.json" not in present -%}
        {%- do log(
            "There is no " ~ home ~ "/clock.json, so nothing is known before any instant and the marts will be empty."
            ~ " Load data and let the command line set the clock: mailwright sample online-retail, then mailwright"
            ~ " refresh. Or set MAILWRIGHT_HOME to the home that you mean.", info=true
        ) -%}
    {%- endif -%}
    {{ return(statements | join(";\n")) }}
{%- endmacro %}

{% macro lake_folders(home) -%}
    {#- What exists in the home, in one query: folders that hold Parquet files, and the two files of the lake itself. -#}
    {%- set query -%}
        select distinct regexp_replace(file, '/[^/]*$', '') as folder
        from glob(['{{ home }}/lake/accepted/*/*/*.parquet', '{{ home }}/state/*/*.parquet'])
        union all
        select file from glob(['{{ home }}/lake/deliveries.parquet', '{{ home }}/clock.json'])
    {%- endset -%}
    {{ return(run_query(query).columns[0].values() | list) }}
{%- endmacro %}

{% macro lake_view(source, path, is_present) -%}
    {%- set columns = source.columns.values() | list -%}
    {%- if source.schema.startswith("lake_") -%}
        {%- set columns = columns + [
            {"name": "delivery_id", "data_type": "varchar"}, {"name": "row_number", "data_type": "bigint"}
        ] -%}
    {%- endif -%}
    create or replace view {{ source.schema }}.{{ source.identifier }} as
    select {{ columns | map(attribute="name") | join(", ") }}
    from (
        select {% for column in columns %}cast(null as {{ column.data_type }}) as {{ column.name }}{{ ", " if not loop.last }}{% endfor %}
        {%- if source.name == "clock" and not is_present %}
        {%- else %}
        where false
        {%- endif %}
        {%- if is_present %}
        union all by name
        {%- if source.name == "clock" %}
        select as_of, timezone, currency
        from read_json('{{ path }}', columns = {as_of: 'timestamp', timezone: 'varchar', currency: 'varchar'})
        {%- else %}
        select * from read_parquet('{{ path }}', union_by_name = true)
        {%- endif %}
        {%- endif %}
    )
{%- endmacro %}
