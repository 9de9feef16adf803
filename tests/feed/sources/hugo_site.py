"""A tiny site made by Debian's hugo, as its users make one."""

import subprocess
from pathlib import Path
from typing import Final

BASE: Final = "https://blog.example/journal/"
_FILES: Final = {
    "config.toml": f'baseURL = "{BASE}"\ntitle = "A Journal"\nlanguageCode = "en"\n',
    "layouts/_default/baseof.html": """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>{{ .Title }}</title>
<link rel="stylesheet" href="{{ "style.css" | relURL }}">
{{ range .AlternativeOutputFormats -}}
<link rel="{{ .Rel }}" type="{{ .MediaType.Type }}" href="{{ .Permalink }}">
{{ end }}<script src="/journal/evil.js"></script></head>
<body>{{ block "main" . }}{{ end }}</body></html>
""",
    "layouts/_default/single.html": '{{ define "main" }}<h1>{{ .Title }}</h1>{{ .Content }}{{ end }}',
    "layouts/_default/list.html": """{{ define "main" }}<ul>{{ range .Site.RegularPages }}
<li><a href="{{ .Permalink }}">{{ .Title }}</a></li>{{ end }}</ul>{{ end }}""",
    "content/posts/first.md": "---\ntitle: First light\ndate: 2024-02-01\n---\nThe sun is **up**.\n",
    "content/posts/second.md": "---\ntitle: Grüße\ndate: 2024-03-01\n---\n![A dot](/journal/dot.png)\n",
    "static/style.css": "body { color: green; background: url(/journal/dot.png) }\n",
    "static/evil.js": "document.title = 'taken over'\n",
    "static/.secret": "not for the world\n",
}
_DOT: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8cfc0f01f0005000201a1a0d3eb0000000049454e44ae426082"
)


def make_site(folder: Path) -> Path:
    """Write the sources and let hugo make the site. Returns: the folder to publish."""
    for name, text in _FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "static" / "dot.png").write_bytes(_DOT)
    subprocess.run(["hugo", "--quiet", "--source", folder], check=True, capture_output=True, timeout=60)
    return folder / "public"
