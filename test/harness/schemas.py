"""Do all groups have the schema that the home has, and do rows lie only where they belong? Asked of the servers themselves.

The home has every table as declared; the groups have the same tables, those that are sharded as partitioned tables whose leaves lie
in the schema pgmosaic_shards. What the home and a group have in common must be equal to the letter.
"""

SHARDS_DATABASE = "pgmosaic_shards_{}"  # on the home's server, beside the database itself

USERS = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgmosaic', 'pgmosaic_shards')"

# (what, query): rows of a name and a text that must be the same everywhere.
PARTS = [
    ("relation", f"""
        SELECT c.oid::regclass::text, concat_ws(' ', CASE c.relkind WHEN 'p' THEN 'r' ELSE c.relkind END, c.relpersistence,
               pg_get_userbyid(c.relowner), c.relrowsecurity, c.relacl)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {USERS}"""),
    ("columns", f"""
        SELECT c.oid::regclass::text, string_agg(concat_ws(' ', a.attnum, quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
               CASE WHEN a.attnotnull THEN 'not null' END, 'default ' || pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated,
               nullif(a.attcollation, 0)::regcollation), ', ' ORDER BY a.attnum)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
             LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped AND {USERS} GROUP BY 1"""),
    ("index", f"""
        SELECT i.indexrelid::regclass::text, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ') || ' ' || i.indisvalid
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USERS}"""),
    ("constraint", f"""
        SELECT concat_ws('.', nullif(k.conrelid, 0)::regclass, nullif(k.contypid, 0)::regtype, quote_ident(k.conname)),
               pg_get_constraintdef(k.oid) || ' ' || k.convalidated
        FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
        WHERE k.conparentid = 0 AND k.contype <> 't' AND {USERS}"""),
    ("view", f"""
        SELECT c.oid::regclass::text, pg_get_viewdef(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('v', 'm') AND {USERS}"""),
    ("type", f"""
        SELECT t.oid::regtype::text, concat_ws(' ', t.typtype, format_type(nullif(t.typbasetype, 0), t.typtypmod), t.typdefault,
               (SELECT string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid))
        FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {USERS}"""),
    ("function", f"""
        SELECT p.oid::regprocedure::text, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {USERS}"""),
    ("trigger", f"""
        SELECT t.tgrelid::regclass::text || '.' || quote_ident(t.tgname), concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT t.tgisinternal AND {USERS}"""),
    ("schema", f"SELECT n.nspname, concat_ws(' ', pg_get_userbyid(n.nspowner), n.nspacl) FROM pg_namespace n WHERE {USERS}"),
]
LEAVES = """
    SELECT i.inhparent::regclass::text, substring(pg_get_expr(c.relpartbound, c.oid) FROM 'remainder (\\d+)')::int
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE n.nspname = 'pgmosaic_shards' AND c.relkind IN ('r', 'p')"""


def group_endpoints(router):
    """{name: endpoint of its server} of the groups of a router's database, and of the home under the name \"home\"."""
    found = {}
    for name, host, port, is_home in router.run("SELECT group_name, host, port, is_home FROM pgmosaic.groups ORDER BY 1"):
        server = router.change(host=host, port=port)
        if is_home:
            found["home"] = server
            server = server.change(database=SHARDS_DATABASE.format(router.database))
        found[name] = server
    return found


def schema_of(endpoint):
    """{(what, name): how it is} of everything that users made, but leaves."""
    found = {}
    with endpoint.connect(autocommit=False) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SET LOCAL search_path = ''")
        for what, query in PARTS:
            for name, text in connection.execute(query).fetchall():
                found[what, name] = text
    return found


def schema_differences(router):
    """Lines that say how the groups' schemas differ from the home's. Nobody may change the schema meanwhile."""
    groups = group_endpoints(router)
    home = schema_of(groups.pop("home"))
    found = []
    for group, endpoint in groups.items():
        there = schema_of(endpoint)
        for key in sorted(home.keys() | there.keys()):
            if home.get(key) != there.get(key):
                found.append(f"{group}: {' '.join(key)} is {there.get(key)!r}, on the home {home.get(key)!r}")
    return found + leaf_differences(router, groups)


def leaf_differences(router, groups):
    """Every shard that the router knows has its leaf on its group, and there is no other leaf."""
    known = {name: [] for name in groups}
    for group, schema, table, remainder in router.run(
            "SELECT group_name, quote_ident(table_schema), quote_ident(table_name), remainder FROM pgmosaic.shards"):
        known[group].append((f"{schema}.{table}", remainder))
    found = []
    for group, endpoint in groups.items():
        with endpoint.connect() as connection:
            connection.execute("SET search_path = ''")
            leaves = connection.execute(LEAVES).fetchall()
        for leaf in set(known[group]) ^ set(leaves):
            found.append(f"{group}: shard {leaf[1]} of {leaf[0]} is {'missing' if leaf in known[group] else 'unknown to the router'}")
    return found


def misplaced_rows(router):
    """Lines that say which rows lie where they should not be, or are missing from a copy of a reference table."""
    groups = group_endpoints(router)
    home = groups.pop("home")
    kinds = {f"{schema}.{table}": kind for schema, table, kind in router.run(
        "SELECT quote_ident(schema_name), quote_ident(table_name), table_type FROM pgmosaic.tables")}
    found = []
    for (what, name), text in sorted(schema_of(home).items()):
        if what != "relation" or not text.startswith("r "):
            continue
        kind = kinds.get(name, "local")
        digest = f"SELECT count(*), md5(string_agg(r::text, ',' ORDER BY r::text)) FROM {name} r"
        at_home = home.run(digest)
        if kind == "sharded" and at_home[0][0]:
            found.append(f"home: {at_home[0][0]} rows of the sharded table {name}")
        for group, endpoint in groups.items():
            there = endpoint.run(digest)
            if kind == "reference" and there != at_home:
                found.append(f"{group}: {there[0][0]} rows of the reference table {name}, on the home {at_home[0][0]}, or other ones")
            if kind == "local" and there[0][0]:
                found.append(f"{group}: {there[0][0]} rows of the local table {name}")
    return found
