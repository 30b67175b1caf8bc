#!/usr/bin/env python3
"""Writes src/sql/functions_table.inc: PostgreSQL's built-in functions and what the planner must know of each.

    tools/gen_functions.py --conninfo "host=127.0.0.1 user=postgres" > src/sql/functions_table.inc

Kind and volatility come from the server's pg_proc, the rest from the lists below. Names only: the planner does not
resolve overloads, so a name gets the worst of what its overloads may do. Functions that SQL cannot call (an argument of
type internal, trigger and event trigger functions) are left out and thus unknown.
Flags are those of src/sql/functions.h.
"""
import argparse
import re
import subprocess
import sys

QUERY = """
SELECT proname,
       max(CASE provolatile WHEN 'v' THEN 2 WHEN 's' THEN 1 ELSE 0 END),
       bool_or(prokind = 'a'),
       bool_or(prokind = 'a' AND a.aggkind <> 'n'),
       bool_or(prokind = 'w'),
       bool_or(proretset)
FROM pg_proc p LEFT JOIN pg_aggregate a ON a.aggfnoid = p.oid
WHERE pronamespace = 'pg_catalog'::regnamespace
  AND NOT proargtypes::oid[] && ARRAY['internal'::regtype::oid]
  AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)
GROUP BY proname
"""

# Words that the grammar turns into function-like expressions of their own: name -> volatility.
KEYWORDS = {
    "current_catalog": 1, "current_date": 1, "current_role": 1, "current_time": 1, "current_timestamp": 1,
    "localtime": 1, "localtimestamp": 1, "user": 1,
}


def any_of(*patterns):
    """Matches whole names."""
    return re.compile("^(?:" + "|".join(patterns) + ")$")


SEQUENCE = any_of("nextval", "currval", "lastval", "setval")
SESSION_LOCK = any_of(r"pg_(try_)?advisory_lock(_shared)?", r"pg_advisory_unlock(_shared|_all)?")
TRANSACTION_LOCK = any_of(r"pg_(try_)?advisory_xact_lock(_shared)?")
TRANSACTION_ID = any_of(
    "txid_current", "txid_current_if_assigned", "txid_current_snapshot", "pg_current_xact_id",
    "pg_current_xact_id_if_assigned", "pg_current_snapshot")
LARGE_OBJECT = any_of("lo_.*", "loread", "lowrite")
SLEEP = any_of("pg_sleep", "pg_sleep_for", "pg_sleep_until")
NOT_PREPARABLE = any_of("pg_notify", "pg_export_snapshot")
# Their arguments name relations or contain SQL that the planner does not see.
RUNS_SQL = any_of(
    r"(query|table|cursor|schema|database)_to_xml(schema|_and_xmlschema)?", "ts_stat", "ts_rewrite", "currtid2")

# A group answers for itself: its clock, its random numbers, its process.
DIFFERS = any_of(
    "now", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "timeofday", "current_date",
    "current_time", "current_timestamp", "localtime", "localtimestamp", "age", "mxid_age", "random",
    "gen_random_uuid", "pg_backend_pid", "inet_(server|client)_(addr|port)", "version",
    "pg_postmaster_start_time", "pg_conf_load_time", "pg_jit_available", "pg_config")

# Volatile, and nothing of it outlives the transaction in the session.
HARMLESS_VOLATILE = any_of(
    "clock_timestamp", "timeofday", "random", "gen_random_uuid", "current_query", "txid_status",
    "pg_xact_status", "pg_stat_get_.*", "pg_stat_have_stats", "pg_stat_file", "pg_stat_clear_snapshot",
    "pg_stat_force_next_flush", "pg_ls_.*", "pg_read_.*", "pg_.*_size", "pg_control_.*", "pg_current_.*",
    "pg_last_.*", "pg_is_.*", "pg_get_.*", "pg_lock_status", "pg_prepared_xact", "pg_show_.*",
    "pg_hba_file_rules", "pg_ident_file_mappings", "pg_.*blocking_pids", "pg_isolation_test_session_is_blocked",
    "pg_jit_available", "pg_sequence_last_value", "pg_xact_.*", ".*collation_actual_version",
    "pg_notification_queue_usage", "pg_cancel_backend", "pg_terminate_backend", "pg_reload_conf",
    "pg_rotate_logfile.*", "pg_log_backend_memory_contexts", "pg_logical_emit_message", "pg_export_snapshot",
    "pg_notify", "pg_create_restore_point", "pg_switch_wal", "brin_(de)?summarize_.*", "gin_clean_pending_list",
    "pg_partition_.*")

HARMLESS = (HARMLESS_VOLATILE, TRANSACTION_LOCK, LARGE_OBJECT, SLEEP)

# Stable functions beyond pg_…: they read the system catalog, or print and parse names of its objects.
CATALOG = any_of(
    "reg[a-z]+(in|out|recv|send)", "regclass", "to_reg.*", "format_type", "obj_description",
    "shobj_description", "col_description", "has_.*_privilege", "row_security_active", "aclitem(in|out)",
    "oidvectortypes", "mxid_age", "brin_(de)?summarize_.*", "gin_clean_pending_list", "binary_upgrade_.*",
    "txid_status")
# Stable pg_… functions that need no catalog and no server-wide state, or give the same answer in each group.
NOT_CATALOG = any_of(
    "pg_typeof", "pg_column_size", "pg_column_compression", "pg_collation_for", "pg_char_to_encoding",
    "pg_encoding_to_char", "pg_client_encoding", "pg_backend_pid", "pg_trigger_depth", "pg_get_keywords",
    "pg_timezone_names", "pg_timezone_abbrevs", "pg_postmaster_start_time", "pg_conf_load_time",
    "pg_current_xact_id", "pg_current_xact_id_if_assigned", "pg_current_snapshot",
    r"pg_(node_tree|mcv_list|ndistinct|dependencies|ddl_command)_(in|out|recv|send)", "pg_mcv_list_items",
    "pg_jit_available")


def is_home_only(name, volatility):
    if SLEEP.match(name) or NOT_CATALOG.match(name):
        return False
    if SEQUENCE.match(name) or LARGE_OBJECT.match(name) or CATALOG.match(name):
        return True
    return volatility > 0 and name.startswith("pg_")


def flags_of(name, volatility, aggregate, ordered_set, window, set_returning):
    runs_sql = RUNS_SQL.match(name)
    harmless = not runs_sql and (volatility < 2 or any(p.match(name) for p in HARMLESS))
    marks = [
        ("aggregate", aggregate),
        ("ordered_set", ordered_set),
        ("window", window),
        ("set_returning", set_returning),
        ("harmless", harmless),
        ("home_only", is_home_only(name, volatility)),
        ("differs_per_group", DIFFERS.match(name) or TRANSACTION_ID.match(name)),
        ("session_advisory_lock", SESSION_LOCK.match(name)),
        ("set_config", name == "set_config"),
        ("sequence", SEQUENCE.match(name)),
        ("not_preparable", NOT_PREPARABLE.match(name)),
        ("transaction_id", TRANSACTION_ID.match(name)),
        ("large_object", LARGE_OBJECT.match(name)),
        ("sleep", SLEEP.match(name)),
        ("runs_sql", runs_sql),
    ]
    return [mark for mark, set_ in marks if set_]


def constant(flag):
    """home_only -> kHomeOnly"""
    return "k" + "".join(word.capitalize() for word in flag.split("_"))


def read_functions(conninfo):
    """Rows of QUERY with the right types."""
    command = ["psql", "-X", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-c", QUERY, conninfo]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in output.splitlines():
        name, volatility, *kinds = line.split("\t")
        yield name, int(volatility), *(kind == "t" for kind in kinds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conninfo", required=True, help="of a PostgreSQL 15 server")
    arguments = parser.parse_args()
    functions = {row[0]: row[1:] for row in read_functions(arguments.conninfo)}
    for name, volatility in KEYWORDS.items():
        functions.setdefault(name, (volatility, False, False, False, False))
    print("// Written by tools/gen_functions.py from PostgreSQL 15's pg_proc. Sorted by name.")
    for name in sorted(functions):
        volatility = ("immutable", "stable", "volatile_")[functions[name][0]]
        flags = " | ".join(constant(flag) for flag in flags_of(name, *functions[name])) or "0"
        print(f'{{"{name}", Volatility::{volatility}, {flags}}},')


if __name__ == "__main__":
    sys.exit(main())
