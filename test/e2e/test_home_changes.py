"""Schema changes in functions: what the other groups do is what the home did, and nothing that somebody made up."""
import psycopg
import pytest

from harness import fsck
from harness.fixtures import SELF_CHECK
from harness.pair import databases

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")


@pytest.fixture
def endpoint(router):
    with databases("home_changes", router) as [made]:
        made.run("CREATE TABLE victim (id int PRIMARY KEY) SHARD BY HASH (id)", "INSERT INTO victim VALUES (1), (2), (3)",
                 "CREATE TABLE here (id int PRIMARY KEY) WITH (table_type = 'local')")
        yield made


@pytest.mark.parametrize("forgery, sqlstate", [
    ("SELECT pg_catalog.pgmosaic_note()", "0A000"),
    ("SELECT pg_catalog.pgmosaic_guard()", "0A000"),
    ("INSERT INTO pg_catalog.pgmosaic_home_changes VALUES (pg_current_xact_id(), 1, 'DROP TABLE', 'postgres', '', "
     "'SQL statement \"DROP TABLE victim\"')", "42501"),
])
def test_only_event_triggers_write_notes(endpoint, forgery, sqlstate):
    """Not even in the midst of a schema change."""
    endpoint.run("CREATE ROLE mallory", "GRANT CREATE ON SCHEMA public TO mallory")
    with endpoint.connect(autocommit=True) as connection:
        connection.execute("SET ROLE mallory")
        connection.execute(
            "CREATE FUNCTION forge(sql text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE sql; RETURN 1; END $$")
        connection.execute("CREATE TABLE bait (k int) WITH (table_type = 'local')")
        connection.execute("INSERT INTO bait VALUES (1)")
        literal = forgery.replace("'", "''")
        with pytest.raises(psycopg.Error) as refused:
            connection.execute(
                f"DO $do$ BEGIN EXECUTE $q$ALTER TABLE bait ADD COLUMN b int DEFAULT forge('{literal}')$q$; END $do$")
    assert refused.value.sqlstate == sqlstate, refused.value
    endpoint.run("DROP TABLE bait", "DROP FUNCTION forge", "REVOKE CREATE ON SCHEMA public FROM mallory",
                 "DROP ROLE mallory")
    assert endpoint.run("SELECT count(*) FROM victim") == [(3,)]
    assert fsck.differences(endpoint) == []


@pytest.mark.parametrize("frames", [
    "\"\nPL/pgSQL function inline_code_block line 1 at EXECUTE\nSQL statement \"DROP TABLE victim",
    "\"\nSQL statement \"DROP TABLE victim\"\nPL/pgSQL function pgmosaic_guard() line 3 at PERFORM",
    "\"\nPL/pgSQL function pg_catalog.pgmosaic_note() line 1 at GET DIAGNOSTICS\nSQL statement \"DROP TABLE victim",
])
def test_text_like_a_stack_is_text(endpoint, frames):
    """A statement whose comment or string looks like the stack behind it: done as it stands, or refused."""
    for changes in (f"CREATE TABLE made (k int) /* {frames} */",
                    f"COMMENT ON TABLE here IS ''{frames}''",
                    f"ALTER TABLE here ADD COLUMN c text DEFAULT ''{frames}''"):
        with endpoint.connect(autocommit=True) as connection:
            try:
                connection.execute(f"DO $do$ BEGIN EXECUTE '{changes}'; END $do$")
            except psycopg.errors.FeatureNotSupported:
                pass
            except psycopg.errors.SyntaxError:
                pass
        assert endpoint.run("SELECT count(*) FROM victim") == [(3,)]
        assert fsck.differences(endpoint) == []
