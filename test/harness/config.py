"""The router's configuration file as the tests write it: the one place that knows its keys (docs/configuration.md)."""

INTERNAL_USER = "pgmosaic"


def toml_value(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def section(name, values, array=False):
    head = f"[[{name}]]" if array else f"[{name}]"
    lines = [f"{key} = {toml_value(value)}" for key, value in values.items()]
    return "\n".join([head, *lines] if name else lines) + "\n"


def router_file(router, tls, settings, auth):
    """TOML of a router over attached servers.

    `settings`: {section: {key: value}} over the defaults, section "" for what stands outside one; `auth`: rules.
    """
    sections = {
        "": {"listen": [router.endpoint.host], "port": router.endpoint.port},
        "metrics": {"port": router.http_port},
        "internal": {"user": INTERNAL_USER, "password": router.endpoint.password},
        "metadata": {"path": str(router.directory / "metadata.db")},
        "sharding": {"key_notices": False},  # a PostgreSQL to compare with has none
    }
    if tls:
        sections["tls"] = {"mode": "allow", "cert_file": str(tls.certificate), "key_file": str(tls.key)}
    for name, values in settings.items():
        sections[name] = {**sections.get(name, {}), **values}
    parts = [section(name, values) for name, values in sections.items()]
    parts += [section("auth", rule, array=True) for rule in auth]
    for number, server in enumerate(router.servers, 1):
        group = {"name": f"g{number}", "host": server.endpoint.host, "port": server.endpoint.port, "home": number == 1}
        if server.tls:
            group.update(tls="verify", ca_file=str(server.tls.authority))
        parts.append(section("group", group, array=True))
    return "\n".join(parts)
