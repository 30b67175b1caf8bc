"""Source packages of Debian, for test suites that others wrote: fetched once, unpacked under build/."""
import pathlib
import re
import subprocess


def unpacked(package, folder, *patterns):
    """The tree of the package's upstream archive, or what of it matches the patterns, in `folder`."""
    tree = folder / package
    if not tree.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fetch(package, folder)
        archive = sorted(folder.glob(f"{package}_*.orig.tar.*[!c]"))[-1]  # not its signature, .asc
        partial = folder / f"{package}.partial"
        partial.mkdir(exist_ok=True)
        chosen = ["--wildcards", *patterns] if patterns else []
        subprocess.run(["tar", "xf", archive, "-C", partial, "--strip-components=1", *chosen], check=True)
        partial.rename(tree)
    return tree


def fetch(package, folder):
    """Downloads with an apt configuration of our own: the machine's sources, with deb-src in place of deb."""
    apt = folder / "apt"
    for part in ("lists/partial", "archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    lists = [pathlib.Path("/etc/apt/sources.list"), *pathlib.Path("/etc/apt/sources.list.d").glob("*")]
    lines = [line for file in lists if file.exists() for line in source_lines(file.read_text())]
    (apt / "sources.list").write_text("\n".join(lines) + "\n")
    (apt / "apt.conf").write_text(f'Dir::Etc::sourcelist "{apt}/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
                                  f'Dir::State::lists "{apt}/lists";\nDir::Cache::archives "{apt}/archives";\n'
                                  'APT::Sandbox::User "root";\n')
    for command in (["update", "-q"], ["source", "-q", "--download-only", package]):
        subprocess.run(["apt-get", "-c", apt / "apt.conf", *command], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def source_lines(text):
    """deb-src lines for a list of apt's in either format; not of security updates: their superseded versions disappear."""
    lines = [re.sub(r"^deb ", "deb-src ", line) for line in text.splitlines()
             if re.match(r"deb .*debian", line) and "security" not in line]
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"(?m)^(\w[\w-]*): *(.*)$", paragraph))
        if "debian" in fields.get("URIs", "") and "security" not in fields["URIs"]:
            signed = f"[signed-by={fields['Signed-By']}] " if fields.get("Signed-By", "").startswith("/") else ""
            lines += [f"deb-src {signed}{fields['URIs']} {suite} main" for suite in fields["Suites"].split()]
    return lines
