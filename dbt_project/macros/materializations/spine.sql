{#-
    A table that is built slice by slice, and in which what is still right is kept.

    The model's SQL is written for one slice: an as_of of the spine, for instance. It reads the slice's columns with
    `slice_value`, and filters each input by what was known then. Memory is bounded by one slice, and a new as_of costs one
    as_of.

    A row is kept from run to run as long as nothing that it was made from has changed. That is told by fingerprints, kept
    beside the table as `<model>__fingerprints`: for each share of the customers (a row) and slice (a column), a sum of
    hashes over all that was known of these customers at the slice's instant. It differs after a late or historical
    delivery, an erasure, a corrected version, and after a merge or split of customers; then the share is made anew in that
    slice. Shares are small (65,536 of them, by a hash of customer_id), so that little is made anew that need not be. When
    the compiled SQL or this way of telling differs, or on `--full-refresh`, everything is.

    Configuration:

    - slices: {relation, keys, columns, instant}. A model that the SQL selects from, with one row per slice. `keys` are
      columns of this table as well and name the slice; the values of `columns`, which hold for all customers, belong to the
      fingerprint; `instant` is the exclusive bound on knowledge, by default the first key.
    - inputs: model -> {columns, instants, where}. All other models that the SQL selects from. Each has customer_id and
      holds rows of which something becomes known at the `instants`: by default since known_at, until superseded_at.
      `columns` are all that the SQL may select; what is not named there does not exist for it while several slices are
      made, as inputs are copied then, narrowed to these columns and to the customers in question.
-#}
{% materialization spine, default %}
    {%- set target_relation = this.incorporate(type="table") -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set fingerprints = spine_companion("fingerprints") -%}
    {%- set slices = spine_slices() -%}
    {%- set code = local_md5(compiled_code ~ spine_fingerprints(fingerprints, [], "")) -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {%- set is_new = existing is none or not existing.is_table or flags.FULL_REFRESH
        or spine_code(fingerprints) != code -%}
    {%- if is_new -%}
        {%- if existing is not none -%}
            {%- do adapter.drop_relation(existing) -%}
        {%- endif -%}
        {%- do run_spine_statement("create", get_create_table_as_sql(
            False, target_relation, "select * from (" ~ compiled_code ~ ") as spine_slice limit 0"
        )) -%}
    {%- endif -%}

    {%- do run_spine_statement("fingerprint", spine_fingerprints(spine_companion("now"), slices, code)) -%}
    {%- if is_new -%}
        {%- do build_slices(target_relation, slices, none) -%}
    {%- else -%}
        {%- set known = spine_columns(fingerprints) -%}
        {%- set stored = [] -%}
        {%- set whole = [] -%}
        {%- for slice in slices -%}
            {%- do (stored if slice.column in known else whole).append(slice) -%}
        {%- endfor -%}
        {%- do run_spine_statement("compare", spine_changes(
            spine_companion("changes"), spine_companion("now"), fingerprints, stored
        )) -%}
        {%- set partial = [] -%}
        {%- for change in run_query(spine_change_counts(spine_companion("changes"), spine_companion("now"))).rows -%}
            {%- for slice in stored if slice.number == change[0] -%}
                {%- do (whole if change[1] else partial).append(slice) -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- do delete_slices(target_relation, slices, whole, partial, spine_companion("changes")) -%}
        {%- do build_slices(target_relation, whole, none) -%}
        {%- do build_slices(target_relation, partial, spine_companion("changes")) -%}
        {%- do run_spine_statement("forget_changes", "drop table " ~ spine_companion("changes")) -%}
    {%- endif -%}

    {%- do run_spine_statement("forget", "drop table if exists " ~ fingerprints) -%}
    {%- do run_spine_statement(
        "main", "alter table " ~ spine_companion("now") ~ " rename to " ~ adapter.quote(fingerprints.identifier)
    ) -%}

    {%- do persist_docs(target_relation, model) -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({"relations": [target_relation]}) }}
{% endmaterialization %}

{% macro customer_share(customer_id) -%}
    {#- Which of 65,536 equal shares of the customers one belongs to. -#}
    mod({{ column_hash([customer_id]) }}, 65536)
{%- endmacro %}

{% macro run_spine_statement(name, sql) -%}
    {%- call statement(name, auto_begin=True) -%}
        {{ sql }}
    {%- endcall -%}
{%- endmacro %}

{% macro spine_companion(suffix) -%}
    {#- A table beside this one. -#}
    {{ return(api.Relation.create(
        database=this.database, schema=this.schema, identifier=this.identifier ~ "__" ~ suffix, type="table"
    )) }}
{%- endmacro %}

{% macro spine_parent(name) -%}
    {#- The node of a model that this one selects from. -#}
    {%- for unique_id in model.depends_on.nodes if unique_id.split(".")[-1] == name -%}
        {{ return(graph.nodes[unique_id]) }}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error(model.name ~ " names " ~ name ~ " in its configuration but selects nothing from it") }}
{%- endmacro %}

{% macro spine_slices() -%}
    {#-
        The slices that there are now, oldest first: number, values by column as text, and the column of their fingerprints.
        `bucket` counts their distinct instants: what is known at one is known at all of the same or a greater bucket.
    -#}
    {%- set said = config.require("slices") -%}
    {%- set columns = said["keys"] + said.get("columns", []) -%}
    {%- set instant = said.get("instant", said["keys"][0]) -%}
    {%- set query -%}
        select
            row_number() over (order by {{ instant }}, {{ said["keys"] | join(", ") }}) as number,
            dense_rank() over (order by {{ instant }}) as bucket,
            cast({{ instant }} as varchar) as instant
            {%- for column in columns %},
            cast({{ column }} as varchar) as {{ column }}_text
            {%- endfor %}
        from {{ spine_parent(said["relation"]).relation_name }}
        order by number
    {%- endset -%}
    {%- set slices = [] -%}
    {%- for row in run_query(query).rows -%}
        {%- set values = {} -%}
        {%- for column in columns -%}
            {%- do values.update({column: row[3 + loop.index0]}) -%}
        {%- endfor -%}
        {%- do slices.append({
            "number": row[0] | int,
            "bucket": row[1] | int,
            "instant": row[2],
            "values": values,
            "keys": said["keys"],
            "column": spine_column(values, said["keys"]),
        }) -%}
    {%- endfor -%}
    {{ return(slices) }}
{%- endmacro %}

{% macro spine_column(values, keys) -%}
    {#- The column of a slice's fingerprints: what its keys are, in letters that a name may have. -#}
    {%- set parts = ["slice"] -%}
    {%- for key in keys -%}
        {%- do parts.append(modules.re.sub("\\W", "_", values[key])) -%}
    {%- endfor -%}
    {{ return(parts | join("_")) }}
{%- endmacro %}

{% macro spine_columns(fingerprints) -%}
    {{ return(adapter.get_columns_in_relation(fingerprints) | map(attribute="name") | list) }}
{%- endmacro %}

{% macro spine_bucket(instant, buckets) -%}
    {#- The first of the ordered (instant, bucket) pairs that knows what became known at `instant`; null past the last. -#}
    {%- if buckets | length == 1 -%}
        case when {{ instant }} < timestamp '{{ buckets[0][0] }}' then {{ buckets[0][1] }} end
    {%- elif buckets -%}
        {%- set half = buckets | length // 2 -%}
        case
            when {{ instant }} < timestamp '{{ buckets[half - 1][0] }}' then {{ spine_bucket(instant, buckets[:half]) }}
            else {{ spine_bucket(instant, buckets[half:]) }}
        end
    {%- else -%}
        cast(null as integer)
    {%- endif -%}
{%- endmacro %}

{% macro spine_fingerprints(relation, slices, code) -%}
    {#-
        The table of what was known: a fingerprint per slice and share. A row counts from the bucket in which it became
        known, and once more, with another weight, from each in which something about it ended: what is visible at an
        instant decides the sum, and nothing else does.
    -#}
    {%- set buckets = [] -%}
    {%- for slice in slices if [slice.instant, slice.bucket] not in buckets -%}
        {%- do buckets.append([slice.instant, slice.bucket]) -%}
    {%- endfor -%}
    create table {{ relation }} as
    with

    {% for name, input in config.require("inputs").items() %}
    {%- set instants = input.get("instants", ["known_at", "superseded_at"]) %}
    input_{{ loop.index }} as (
        select
            {{ customer_share("customer_id") }} as share,
            {%- for instant in instants %}
            {{ spine_bucket(instant, buckets) }} as bucket_{{ loop.index }},
            {%- endfor %}
            sum({{ column_hash(["'" ~ name ~ "'", "customer_id"] + input["columns"] | reject("in", instants) | list) }}) as amount
        from {{ spine_parent(name).relation_name }}
        where
            customer_id is not null
            {%- if input.get("where") %}
            and {{ input["where"] }}
            {%- endif %}
        group by all
    ),

    {% endfor %}
    known as (
        {% for name, input in config.require("inputs").items() %}
        {%- set number = loop.index %}
        {%- set is_last = loop.last %}
        {%- for instant in input.get("instants", ["known_at", "superseded_at"]) %}
        select share, bucket_{{ loop.index }} as bucket, amount * {{ 2 * loop.index - 1 }} as amount
        from input_{{ number }}
        where bucket_{{ loop.index }} is not null
        {{ "union all" if not (is_last and loop.last) }}
        {%- endfor %}
        {% endfor %}
    ),

    steps as (
        select share, bucket, sum(amount) as amount
        from known
        group by share, bucket
    )

    -- What became known in the bucket of a slice or in one before, and what holds for all; null where nothing had.
    select
        share,
        {%- for slice in slices %}
        cast(
            sum(case when bucket <= {{ slice.bucket }} then amount end)
            + {{ column_hash(["'" ~ slice["values"].values() | join("|") ~ "'"]) }}
            as decimal(38, 0)
        ) as {{ slice.column }},
        {%- endfor %}
        '{{ code }}' as code
    from steps
    group by share
{%- endmacro %}

{% macro spine_changes(relation, now, before, slices) -%}
    {#- Shares that differ from the last build, by the number of a slice that there was then too. -#}
    create table {{ relation }} as
    with

    compared as {{ materialized() }} (
        select
            {%- for slice in slices %}
            now.{{ slice.column }} is distinct from before.{{ slice.column }} as {{ slice.column }},
            {%- endfor %}
            coalesce(now.share, before.share) as share
        from {{ now }} as now
        full outer join {{ before }} as before on now.share = before.share
    )

    {% for slice in slices %}
    select
        {{ slice.number }} as number,
        share
    from compared
    where {{ slice.column }}
    {{ "union all" if not loop.last }}
    {% else %}
    select
        0 as number,
        share
    from compared
    where false
    {% endfor %}
{%- endmacro %}

{% macro spine_change_counts(changes, now) -%}
    {#- Slices to make, and whether a slice is to be made whole: where a third of the shares changed, it costs no more. -#}
    select
        number,
        count(*) * 3 > (select count(*) from {{ now }}) as is_whole
    from {{ changes }}
    group by number
    order by number
{%- endmacro %}

{% macro build_slices(target, slices, changes) -%}
    {#-
        Make slices, of the shares named in `changes` or, where it is none, of all. More than two read copies of their inputs,
        in which customers are attributed once, and of which only what they may need is there.
    -#}
    {%- if not slices -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set numbers = slices | map(attribute="number") | join(", ") -%}
    {%- set code = {"sql": compiled_code} -%}
    {%- set copies = [] -%}
    {%- if slices | length > 2 or changes is not none -%}
        {%- for name, input in config.require("inputs").items() -%}
            {%- set parent = spine_parent(name) -%}
            {%- set copy = spine_companion(name) -%}
            {%- set instants = input.get("instants", ["known_at", "superseded_at"]) -%}
            {%- set query -%}
                create table {{ copy }} as
                select {{ (["customer_id"] + input["columns"] + instants) | unique | join(", ") }}
                from {{ parent.relation_name }}
                where
                    customer_id is not null
                    and {{ instants[0] }} < timestamp '{{ slices[-1].instant }}'
                    {%- if input.get("where") %}
                    and {{ input["where"] }}
                    {%- endif %}
                    {%- if changes is not none %}
                    and {{ customer_share("customer_id") }} in (select share from {{ changes }} where number in ({{ numbers }}))
                    {%- endif %}
            {%- endset -%}
            {%- do run_spine_statement("copy", query) -%}
            {%- do code.update({"sql": code.sql | replace(parent.relation_name, copy | string)}) -%}
            {%- do copies.append(copy) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- set columns = model.columns.keys() | join(", ") -%}
    {%- for slice in slices -%}
        {%- for column, value in slice["values"].items() -%}
            {%- do run_spine_statement("set", set_slice_value(column, value)) -%}
        {%- endfor -%}
        {%- set query -%}
            insert into {{ target }} ({{ columns }})
            select {{ columns }}
            from ({{ code.sql }}) as slice
            {%- if changes is not none %}
            where {{ customer_share("customer_id") }} in (select share from {{ changes }} where number = {{ slice.number }})
            {%- endif %}
        {%- endset -%}
        {%- do run_spine_statement("slice", query) -%}
    {%- endfor -%}
    {%- for copy in copies -%}
        {%- do run_spine_statement("drop_copy", "drop table " ~ copy) -%}
    {%- endfor -%}
{%- endmacro %}

{% macro delete_slices(target, slices, whole, partial, changes) -%}
    {#- Take away slices that are no more, those that are made anew, and changed shares of the others. -#}
    {%- set keys = config.require("slices")["keys"] -%}
    {%- set kept = [] -%}
    {%- for slice in slices if slice not in whole -%}
        {%- do kept.append(slice.column) -%}
    {%- endfor -%}
    {%- set query -%}
        select distinct
            {%- for key in keys %}
            cast({{ key }} as varchar) as {{ key }}{{ "," if not loop.last }}
            {%- endfor %}
        from {{ target }}
    {%- endset -%}
    {%- for row in run_query(query).rows -%}
        {%- set slice = {"keys": keys, "values": dict(zip(keys, row))} -%}
        {%- if spine_column(slice["values"], keys) not in kept -%}
            {%- do run_spine_statement("delete", "delete from " ~ target ~ " where " ~ is_slice(target, slice)) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- for slice in partial -%}
        {%- set query -%}
            delete from {{ target }}
            where
                {{ is_slice(target, slice) }}
                and {{ customer_share("customer_id") }} in (select share from {{ changes }} where number = {{ slice.number }})
        {%- endset -%}
        {%- do run_spine_statement("delete_shares", query) -%}
    {%- endfor -%}
{%- endmacro %}

{% macro is_slice(relation, slice) -%}
    {%- for key in slice["keys"] -%}
        {{ relation }}.{{ key }} = cast('{{ slice["values"][key] }}' as {{ model.columns[key].data_type }})
        {{- " and " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}

{% macro spine_code(fingerprints) -%}
    {#- The code that the table was last built by, as its fingerprints remember it; none where there are none. -#}
    {%- set found = load_relation(fingerprints) -%}
    {%- if found is none -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set rows = run_query("select max(code) from " ~ fingerprints).rows -%}
    {{ return(rows[0][0]) }}
{%- endmacro %}
