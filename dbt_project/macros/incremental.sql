{#-
    Incremental tables that rebuild themselves. A table remembers, in its comment, by which definition it was made and
    which deliveries went into it. When the definition has changed since, or one of those deliveries is gone, was erased
    from or repaired, the run that finds out makes the table anew, as `--full-refresh` would; `is_incremental()` says so
    to the model. A table of which nothing is remembered is made anew as well.

    A model that is `materialized: incremental` needs no more than to re-read the entities of deliveries with
    `sequence > {{ last_sequence() }}`.
-#}

{% macro should_full_refresh() -%}
    {#- dbt's own question, asked by its materialization and by `is_incremental()`. -#}
    {%- set asked_for = config.get("full_refresh") -%}
    {%- if asked_for is none -%}
        {%- set asked_for = flags.FULL_REFRESH -%}
    {%- endif -%}
    {{ return(asked_for or needs_full_refresh()) }}
{%- endmacro %}

{% macro needs_full_refresh() -%}
    {#- Whether this incremental table no longer is what its definition makes of the deliveries that went into it. -#}
    {%- if not execute or model.config.materialized != "incremental" -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set memory = remembered_build() -%}
    {{ return(
        memory.definition != definition_fingerprint()
        or memory.deliveries != deliveries_fingerprint(memory.sequence)
    ) }}
{%- endmacro %}

{% macro last_sequence() -%}
    {#- The newest delivery, of whatever table, that this table was built from; 0 where it is made anew. -#}
    {%- if not execute or not is_incremental() -%}
        {{ return(0) }}
    {%- endif -%}
    {{ return(remembered_build().sequence) }}
{%- endmacro %}

{% macro history_arrived() -%}
    {#-
        Whether, since this table was built, a delivery came that is marked historical: only such a one changes what was
        known in the past.
    -#}
    {%- if not execute or not is_incremental() -%}
        {{ return(true) }}
    {%- endif -%}
    {{ return(run_query(
        "select 1 from lake.deliveries where historical and sequence > " ~ last_sequence() ~ " limit 1"
    ).rows | length > 0) }}
{%- endmacro %}

{% macro answer(query) -%}
    {#-
        The one value that a query finds at this moment; none while parsing. For bounds of what is read: only of a number
        or instant that stands in the SQL does the engine know which files and row groups to leave alone.
    -#}
    {{ return(run_query(query).rows[0][0] if execute else none) }}
{%- endmacro %}

{% macro begin_build() -%}
    {#- Before the build, so that a delivery that arrives meanwhile is read again by the next one: where it begins. -#}
    {%- if execute and model.config.materialized == "incremental" -%}
        set variable {{ build_variable() }} = (select coalesce(max(sequence), 0) from lake.deliveries)
    {%- endif -%}
{%- endmacro %}

{% macro end_build() -%}
    {#- After the build: what it was made by and of. -#}
    {%- if execute and model.config.materialized == "incremental" -%}
        {%- set sequence = run_query("select getvariable('" ~ build_variable() ~ "')").rows[0][0] | int -%}
        {%- set memory = {
            "definition": definition_fingerprint(),
            "sequence": sequence,
            "deliveries": deliveries_fingerprint(sequence),
        } -%}
        {{ return(adapter.dispatch("remember_build", "mailwright")(tojson(memory, sort_keys=true))) }}
    {%- endif -%}
{%- endmacro %}

{% macro duckdb__remember_build(memory) -%}
    comment on table {{ this }} is '{{ memory }}'
{%- endmacro %}

{% macro remembered_build() -%}
    {#- What `end_build` wrote last; a definition of none where it wrote nothing. -#}
    {%- set said = adapter.dispatch("read_build", "mailwright")() -%}
    {{ return(fromjson(said) if said else {"definition": none, "sequence": 0, "deliveries": none}) }}
{%- endmacro %}

{% macro duckdb__read_build() -%}
    {%- set found = run_query(
        "select comment from duckdb_tables() where database_name = current_database() and schema_name = '"
        ~ this.schema ~ "' and table_name = '" ~ this.identifier ~ "'"
    ).rows -%}
    {{ return(found[0][0] if found) }}
{%- endmacro %}

{% macro definition_fingerprint() -%}
    {#-
        A hash of all that decides what this table holds, deliveries aside: the code of the model and of everything that it
        selects from, seeds and contracts among it, all macros, the vars that these name, the libraries that read
        addresses and numbers, and the home's timezone and currency. A seed's rows count, a table's don't.
    -#}
    {%- set parts = [] -%}
    {%- for name in ancestors() | sort -%}
        {%- set node = graph.sources[name] if name in graph.sources else graph.nodes[name] -%}
        {%- if node.resource_type == "source" -%}
            {%- set columns = [] -%}
            {%- for column in node.columns.values() -%}
                {%- do columns.append([column.name, column.data_type]) -%}
            {%- endfor -%}
            {%- do parts.append(tojson([name, columns, node.config.meta], sort_keys=true)) -%}
            {%- if "parsed_with" in node.columns -%}
                {%- do parts.append(answer(
                    "select string_agg(distinct parsed_with, ';' order by parsed_with) from "
                    ~ node.schema ~ "." ~ node.identifier
                ) or "") -%}
            {%- endif -%}
        {%- else -%}
            {%- do parts.append(name ~ ":" ~ node.checksum.checksum ~ ":" ~ (node.raw_code or "")) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do parts.append(adapter.dispatch("macros_and_clock", "mailwright")()) -%}
    {%- set code = parts | join("\n") -%}
    {%- set values = {} -%}
    {%- for name in modules.re.findall("\\bvar\\([\"'](\\w+)[\"']", code) -%}
        {%- do values.update({name: var(name, none)}) -%}
    {%- endfor -%}
    {{ return(local_md5(code ~ tojson(values, sort_keys=true))) }}
{%- endmacro %}

{% macro duckdb__macros_and_clock() -%}
    {%- set read = run_query(
        "select (select string_agg(content, '' order by filename) from read_text("
        ~ quoted(project_folder() ~ "/macros/*.sql") ~ ")) || timezone || currency from lake.clock"
    ).rows -%}
    {{ return(read[0][0] if read) }}
{%- endmacro %}

{% macro deliveries_fingerprint(sequence) -%}
    {#- A hash of the deliveries up to `sequence` to the sources of this model, and of what was rejected and erased. -#}
    {%- set tables = [] -%}
    {%- for name in ancestors() | sort if name in graph.sources -%}
        {%- set source = graph.sources[name] -%}
        {%- do tables.append("'" ~ source.source_name ~ "." ~ source.name ~ "'") -%}
    {%- endfor -%}
    {%- set query -%}
        select coalesce(string_agg(
            concat_ws('|', delivery_id, source, table_name, historical, received_at, rows_read, rows_rejected, rows_erased),
            ';' order by sequence, source, table_name
        ), '')
        from lake.deliveries
        where sequence <= {{ sequence }} and source || '.' || table_name in ({{ tables | join(", ") or "''" }})
    {%- endset -%}
    {{ return(local_md5(run_query(query).rows[0][0])) }}
{%- endmacro %}

{% macro ancestors() -%}
    {#- Unique ids of this model and of everything that it selects from, directly or not. -#}
    {%- set found = [model.unique_id] -%}
    {%- for name in found -%}
        {%- for parent in (graph.nodes[name].depends_on.nodes if name in graph.nodes else []) if parent not in found -%}
            {%- do found.append(parent) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{% macro build_variable() -%}
    {{ return("built_from_" ~ this.schema ~ "_" ~ this.identifier) }}
{%- endmacro %}
