"""What CREATE TABLE says of a distribution key that is likely to be a bad one."""
import pytest

from harness.fixtures import SELF_CHECK

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="the router's own notices")

CASES = [
    ("(id bigint PRIMARY KEY, v text) SHARD BY (id)", []),
    ("(id bigint NOT NULL, at date NOT NULL) SHARD BY HASH (id, at)", []),
    ("(id serial, v text) SHARD BY (id)", []),
    ("(id bigint, v text) SHARD BY (id)", ['distribution column "id" may be NULL']),
    ("(id int, v text, PRIMARY KEY (id, v)) SHARD BY HASH (id, v)", []),
    ("(id int, done bool NOT NULL) SHARD BY (done)", ['distribution column "done" has few different values']),
    ("(id int, kind text NOT NULL CHECK (kind IN ('a', 'b'))) SHARD BY (kind)", ['distribution column "kind" has few different values']),
    ("(id int, kind text NOT NULL, CHECK (kind IN ('a', 'b'))) SHARD BY HASH (kind, id)", ['distribution column "id" may be NULL']),
    ("(id int, at timestamptz NOT NULL) SHARD BY HASH (at)", ['distribution column "at" is a moment in time']),
    ("(id int, at timestamp NOT NULL) PARTITION BY RANGE (at)", ['all new rows go to the latest partition of "at"']),
    ("(id int NOT NULL, at timestamp NOT NULL) SHARD BY HASH (id) PARTITION BY RANGE (at)", []),
    ("(id int, region text) PARTITION BY LIST (region)", []),
    ("(id int, status text NOT NULL) SHARD BY (status)", ['distribution column "status" looks as if it were often updated']),
    ("(id int, v text)", []),
    ("(id int, v text) WITH (table_type = 'reference')", []),
]


def test_notices(make_server, make_router):
    servers = [make_server("g1"), make_server("g2")]
    router = make_router(servers, settings={"sharding": {"key_notices": True}})
    with router.endpoint.connect() as connection:
        said = []

        def hear(notice):
            assert notice.severity == "NOTICE" and notice.message_detail and notice.message_hint
            said.append(notice.message_primary)

        connection.add_notice_handler(hear)
        for definition, expected in CASES:
            said.clear()
            connection.execute(f"CREATE TABLE t {definition}")
            assert said == expected, definition
            connection.execute("DROP TABLE t")
        said.clear()
        connection.execute("SET client_min_messages = warning")
        connection.execute("CREATE TABLE t (id int) SHARD BY (id)")
        assert said == []
