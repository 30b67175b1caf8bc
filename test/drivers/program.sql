-- What users of psql do; run with `psql -X -f`.
\set ON_ERROR_STOP 0
\set VERBOSITY verbose
\pset null '(null)'
INSERT INTO items (id, name, price) VALUES (1, 'one', 1.50);
INSERT INTO items (id, name, price, tags) VALUES (2, 'two', 2, '{a,b}'), (3, 'three', NULL, NULL), (4, 'four', 4.25, '{}');
\copy parts FROM PROGRAM 'seq 1 50 | sed "s/.*/&\t&\tgreen/"'
\copy (SELECT * FROM parts WHERE item_id = 7) TO STDOUT CSV HEADER
SELECT * FROM items ORDER BY id;
\x
SELECT id, name, tags FROM items WHERE id = 2;
\x
SELECT count(*) AS total FROM parts \gset
\echo :total
SELECT id, name FROM items WHERE id = 1 \gdesc
SELECT 'SELECT count(*) FROM items WHERE id > ' || i FROM generate_series(1, 3) i ORDER BY i \gexec
SELECT label, item_id % 3 AS rest, count(*) FROM parts GROUP BY 1, 2 ORDER BY 1, 2
\crosstabview
\set FETCH_COUNT 3
SELECT n FROM generate_series(1, 8) n;
\unset FETCH_COUNT
BEGIN;
UPDATE items SET price = 0;
SAVEPOINT s;
INSERT INTO items (id) VALUES (1);
ROLLBACK TO s;
SELECT sum(price) FROM items;
ROLLBACK;
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO items (id) VALUES (1);
INSERT INTO items (id) VALUES (10);
COMMIT;
\unset ON_ERROR_ROLLBACK
\set VERBOSITY default
SELECT id, name FROM items WHERE id >= 10;
SELECT * FROM nothing;
SELECT nothing FROM items WHERE id = 1;
SELECT 1 +
  / 2;
SELECT 1/0 FROM items WHERE id = 1;
SELECT 1; SELECT 2 \; SELECT 3;
PREPARE p (int) AS SELECT name FROM items WHERE id = $1;
EXECUTE p (2);
DEALLOCATE p;
\set AUTOCOMMIT off
UPDATE items SET name = 'lost' WHERE id = 1;
ROLLBACK;
\set AUTOCOMMIT on
SELECT name FROM items WHERE id = 1;
\timing off
\encoding
\echo :SERVER_VERSION_NUM
SET TIME ZONE 'UTC';
COPY parts TO STDOUT (FORMAT csv, FORCE_QUOTE *, DELIMITER ';', NULL 'nil', ENCODING 'UTF8') \g /dev/null
COPY notes FROM STDIN;
1	first
2	\N
\.
SELECT * FROM notes ORDER BY id;
DROP TABLE IF EXISTS nothing_here;
\c
SELECT count(*) FROM items;
\q
