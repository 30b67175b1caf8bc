// What users of JDBC do. Prints what happened. Arguments: JDBC URL, user, password.
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.UUID;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PGobject;

public final class Program {
  interface Action {
    void run() throws Exception;
  }

  static void show(String what, Object value) {
    System.out.println(what + ": " + value);
  }

  static void error(String what, Action action) throws Exception {
    try {
      action.run();
      show(what, "no error");
    } catch (SQLException problem) {
      show(what, problem.getSQLState() + " " + problem.getMessage().split("\n")[0]);
    }
  }

  static List<String> rows(ResultSet result) throws SQLException {
    List<String> found = new ArrayList<>();
    int columns = result.getMetaData().getColumnCount();
    while (result.next()) {
      List<String> row = new ArrayList<>();
      for (int column = 1; column <= columns; column++) row.add(result.getString(column));
      found.add(row.toString());
    }
    return found;
  }

  static List<String> ask(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      return rows(statement.executeQuery(sql));
    }
  }

  static void rowsAndTypes(Connection connection) throws Exception {
    String sql = "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    try (PreparedStatement insert = connection.prepareStatement(sql)) {
      for (int n = 1; n <= 60; n++) {
        PGobject document = new PGobject();
        document.setType("jsonb");
        document.setValue("{\"n\": " + n + "}");
        insert.setInt(1, n);
        insert.setString(2, "item " + n);
        insert.setBigDecimal(3, new BigDecimal(n).divide(new BigDecimal(4)));
        insert.setArray(4, connection.createArrayOf("text", new String[] {"a", null, "t," + n}));
        insert.setObject(5, document);
        insert.setObject(6, OffsetDateTime.of(2024, 5, 1, 12, n % 60, 0, 0, ZoneOffset.UTC));
        insert.setObject(7, LocalDate.of(2024, 1, 1 + n % 28));
        insert.setBytes(8, new byte[] {(byte) n, 0, (byte) 255});
        insert.setBoolean(9, n % 2 == 0);
        insert.setObject(10, new UUID(0, n));
        insert.setDouble(11, n / 8.0);
        insert.addBatch();
      }
      show("batch", Arrays.stream(insert.executeBatch()).filter(count -> count == 1 || count == -2).count());
    }
    try (PreparedStatement select = connection.prepareStatement("SELECT * FROM items WHERE id = ?")) {
      for (int n = 5; n < 15; n++) {
        select.setInt(1, n);
        try (ResultSet result = select.executeQuery()) {
          result.next();
          Array tags = result.getArray("tags");
          show("row", result.getInt(1) + " " + result.getString(2) + " " + result.getBigDecimal(3) + " "
              + Arrays.toString((Object[]) tags.getArray()) + " " + result.getObject("doc") + " "
              + result.getObject("at", OffsetDateTime.class) + " " + result.getObject("day", LocalDate.class) + " "
              + Arrays.toString(result.getBytes("raw")) + " " + result.getBoolean("ok") + " " + result.getObject("ref")
              + " " + result.getDouble("score"));
        }
      }
      ResultSetMetaData about = select.getMetaData();
      for (int column = 1; column <= about.getColumnCount(); column++) {
        show("column", about.getColumnName(column) + " " + about.getColumnTypeName(column) + " "
            + about.getPrecision(column) + " " + about.getScale(column));
      }
    }
    try (PreparedStatement any = connection.prepareStatement("SELECT id FROM items WHERE id = ANY (?) ORDER BY id")) {
      for (int round = 0; round < 7; round++) {
        any.setArray(1, connection.createArrayOf("int4", new Integer[] {3 + round, 1, 2}));
        show("any", rows(any.executeQuery()));
      }
    }
    show("aggregates", ask(connection, "SELECT count(*), sum(price), avg(score), max(at AT TIME ZONE 'UTC') FROM items"));
  }

  static void updates(Connection connection) throws Exception {
    try (Statement statement = connection.createStatement()) {
      show("update", statement.executeUpdate("UPDATE items SET price = price + 1 WHERE id < 30"));
      statement.executeUpdate("INSERT INTO parts VALUES (70, 1, 'red'), (71, 1, 'blue')", new String[] {"item_id"});
      try (ResultSet keys = statement.getGeneratedKeys()) {
        List<String> found = rows(keys);
        found.sort(null);
        show("keys", found);
      }
      boolean more = statement.execute("SELECT 1; UPDATE items SET name = name WHERE id = 1; SELECT 2");
      while (more || statement.getUpdateCount() != -1) {
        show("result", more ? rows(statement.getResultSet()) : statement.getUpdateCount());
        more = statement.getMoreResults();
      }
    }
    try (PreparedStatement returning = connection.prepareStatement("UPDATE items SET ok = NOT ok WHERE id = ? RETURNING id, ok")) {
      returning.setInt(1, 4);
      show("returning", rows(returning.executeQuery()));
    }
  }

  static void cursors(Connection connection) throws Exception {
    connection.setAutoCommit(false);
    try (Statement statement = connection.createStatement()) {
      statement.setFetchSize(7);
      show("fetch size", rows(statement.executeQuery("SELECT g FROM generate_series(1, 30) g")).size());
      show("fetch size", rows(statement.executeQuery("SELECT id FROM items ORDER BY id")).toString());
      statement.setMaxRows(5);
      show("max rows", rows(statement.executeQuery("SELECT id FROM items ORDER BY id")));
    }
    connection.commit();
    connection.setAutoCommit(true);
  }

  static void transactions(Connection connection) throws Exception {
    connection.setAutoCommit(false);
    try (Statement statement = connection.createStatement()) {
      statement.executeUpdate("UPDATE items SET price = 0");
      Savepoint savepoint = connection.setSavepoint("here");
      error("duplicate", () -> statement.executeUpdate("INSERT INTO items (id) VALUES (7)"));
      error("failed block", () -> statement.executeQuery("SELECT 1"));
      connection.rollback(savepoint);
      show("inside", rows(statement.executeQuery("SELECT count(*), sum(price) FROM items")));
      connection.rollback();
      show("outside", rows(statement.executeQuery("SELECT count(*), sum(price) FROM items")));
      connection.commit();
      connection.setTransactionIsolation(Connection.TRANSACTION_REPEATABLE_READ);
      connection.setReadOnly(true);
      show("isolation", rows(statement.executeQuery("SHOW transaction_isolation")));
      error("read only", () -> statement.executeUpdate("DELETE FROM items WHERE id = 1"));
      connection.rollback();
    }
    connection.setReadOnly(false);
    connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
    connection.setAutoCommit(true);
  }

  static void copies(Connection connection) throws Exception {
    CopyManager copy = connection.unwrap(PGConnection.class).getCopyAPI();
    StringBuilder data = new StringBuilder();
    for (int n = 100; n < 600; n++) data.append(n).append(',').append(n).append(",green\n");
    show("copy in", copy.copyIn("COPY parts FROM STDIN (FORMAT csv)", new StringReader(data.toString())));
    StringWriter out = new StringWriter();
    show("copy out", copy.copyOut("COPY parts TO STDOUT", out) + " " + out.toString().split("\n").length);
    error("copy error", () -> copy.copyIn("COPY parts FROM STDIN", new StringReader("1000\t1\tx\n100\t100\tx\n")));
    show("count", ask(connection, "SELECT count(*) FROM parts"));
  }

  static void cancellation(Connection connection) throws Exception {
    try (Statement statement = connection.createStatement()) {
      Thread canceller = new Thread(() -> {
        try {
          Thread.sleep(400);
          statement.cancel();
        } catch (InterruptedException | SQLException problem) {
          show("canceller", problem);
        }
      });
      canceller.start();
      error("cancelled", () -> statement.executeQuery("SELECT pg_sleep(20) FROM items"));
      canceller.join();
      statement.setQueryTimeout(1);
      error("timeout", () -> statement.executeQuery("SELECT pg_sleep(20)"));
    }
    show("after", ask(connection, "SELECT count(*) FROM items"));
  }

  static void metadata(Connection connection) throws Exception {
    DatabaseMetaData about = connection.getMetaData();
    show("product", about.getDatabaseProductName() + " " + about.getDatabaseMajorVersion());
    try (ResultSet columns = about.getColumns(null, "public", "items", null)) {
      while (columns.next()) {
        show("metadata", columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME") + " "
            + columns.getInt("NULLABLE"));
      }
    }
    try (ResultSet keys = about.getPrimaryKeys(null, "public", "parts")) {
      while (keys.next()) show("primary key", keys.getString("COLUMN_NAME") + " " + keys.getInt("KEY_SEQ"));
    }
  }

  public static void main(String[] arguments) throws Exception {
    Properties properties = new Properties();
    properties.setProperty("user", arguments[1]);
    properties.setProperty("password", arguments[2]);
    properties.setProperty("reWriteBatchedInserts", "true");
    Connection connection = DriverManager.getConnection(arguments[0], properties);
    rowsAndTypes(connection);
    updates(connection);
    cursors(connection);
    transactions(connection);
    copies(connection);
    metadata(connection);
    for (String sql : new String[] {"SELEC", "SELECT * FROM nothing", "SELECT 1/0", "SELECT nothing FROM items"}) {
      error(sql, () -> ask(connection, sql));
    }
    error("type", () -> {
      try (PreparedStatement statement = connection.prepareStatement("SELECT id FROM items WHERE id = ?::int")) {
        statement.setString(1, "x");
        statement.executeQuery();
      }
    });
    cancellation(connection);
    try (Statement statement = connection.createStatement()) {
      statement.execute("DROP TABLE IF EXISTS nothing_here");
      show("warning", statement.getWarnings().getMessage());
    }
    show("timestamp", ask(connection, "SELECT at AT TIME ZONE 'UTC' FROM items WHERE id = 7"));
    connection.close();
    error("closed", () -> ask(connection, "SELECT 1"));
    for (String mode : new String[] {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"}) {
      properties.setProperty("preferQueryMode", mode);
      properties.setProperty("prepareThreshold", "1");
      try (Connection again = DriverManager.getConnection(arguments[0], properties);
           PreparedStatement select = again.prepareStatement("SELECT name FROM items WHERE id = ? AND at < ?")) {
        for (int n = 1; n < 9; n++) {
          select.setInt(1, n);
          select.setTimestamp(2, Timestamp.valueOf("2030-01-01 00:00:00"));
          show(mode, rows(select.executeQuery()));
        }
      }
    }
    System.out.println("done");
  }
}
