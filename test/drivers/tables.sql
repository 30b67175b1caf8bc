-- What every driver's program works on; the wrapper strips the sharding clauses for plain PostgreSQL.
CREATE TABLE items (id int PRIMARY KEY, name text, price numeric(10,2), tags text[], doc jsonb, at timestamptz, day date, raw bytea, ok bool, ref uuid, score float8) SHARD BY (id);
CREATE TABLE parts (item_id int, n int, label varchar(20), PRIMARY KEY (item_id, n)) SHARD BY (item_id);
CREATE TABLE labels (label varchar(20) PRIMARY KEY, text text) WITH (table_type = 'reference');
CREATE TABLE notes (id int PRIMARY KEY, text text);
INSERT INTO labels VALUES ('red', 'rot'), ('green', 'grün'), ('blue', 'blau');
