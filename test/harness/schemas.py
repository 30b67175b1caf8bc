"""Do rows lie only where they belong, and are copies alike? Asked of the servers themselves; of schemas see harness.fsck."""

SHARDS_DATABASE = "pgmosaic_shards_{}"  # on the home's server, beside the database itself


TABLES = """
    SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1
"""


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


def misplaced_rows(router):
    """Lines that say which rows lie where they should not be, or are missing from a copy of a reference table."""
    groups = group_endpoints(router)
    home = groups.pop("home")
    kinds = {f"{schema}.{table}": kind for schema, table, kind in router.run(
        "SELECT quote_ident(schema_name), quote_ident(table_name), table_type FROM pgmosaic.tables")}
    found = []
    for name, in home.run(TABLES):
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
