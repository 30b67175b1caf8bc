"""The router's configuration file as the tests write it: the one place that knows its keys."""


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
    return "\n".join([head, *(f"{key} = {toml_value(value)}" for key, value in values.items())]) + "\n"


def router_file(router, tls, settings):
    """TOML of a router over attached servers. `settings`: {section: {key: value}} laid over the defaults."""
    defaults = {
        "listen": {"host": router.endpoint.host, "port": router.endpoint.port},
        "admin": {"http_port": router.http_port},
        "store": {"path": str(router.directory / "metadata.sqlite")},
        "internal": {"user": "postgres", "password": router.endpoint.password},
    }
    if tls:
        defaults["tls"] = {"mode": "allow", "certificate": str(tls.certificate), "key": str(tls.key)}
    parts = []
    for name in {**defaults, **settings}:
        parts.append(section(name, {**defaults.get(name, {}), **settings.get(name, {})}))
    for number, server in enumerate(router.servers, 1):
        parts.append(section("group", {"name": f"g{number}", "host": server.endpoint.host, "port": server.endpoint.port,
                                       "home": number == 1}, array=True))
    return "\n".join(parts)
