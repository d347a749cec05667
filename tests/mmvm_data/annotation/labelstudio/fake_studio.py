"""A program with the commands, pages and cookies of Label Studio that logging in needs; it starts at once.

Users are in ``users.json`` of LABEL_STUDIO_BASE_DATA_DIR: e-mail address -> [password, token].
"""

from __future__ import annotations

import http.server
import json
import os
import sys
from pathlib import Path
from urllib.parse import parse_qs

FOLDER = Path(os.environ["LABEL_STUDIO_BASE_DATA_DIR"])
USERS = FOLDER / "users.json"


class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status: int, body: object = None, *cookies: str) -> None:
        self.send_response(status)
        for cookie in cookies:
            self.send_header("Set-Cookie", f"{cookie}; Path=/")
        if status == 302:
            self.send_header("Location", "/health")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self) -> None:
        users = json.loads(USERS.read_text())
        by_session = {f"sessionid={email}": token for email, (_, token) in users.items()}
        token = next((t for c, t in by_session.items() if c in self.headers.get("Cookie", "")), None)
        if self.path == "/health":
            self.answer(200)
        elif self.path == "/user/login/":
            self.answer(200, None, "csrftoken=abc")
        elif self.path == "/api/current-user/token" and token:
            self.answer(200, {"token": token})
        elif self.headers.get("Authorization") in {f"Token {token}" for _, token in users.values()}:
            self.answer(200, {})
        else:
            self.answer(401)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        users = json.loads(USERS.read_text())
        password, _ = users.get(form["email"][0], (None, None))
        if "csrftoken=abc" not in self.headers.get("Cookie", "") or form["csrfmiddlewaretoken"] != ["abc"]:
            self.answer(403)
        elif form["password"] == [password]:
            self.answer(302, None, f"sessionid={form['email'][0]}")
        else:
            self.answer(200)

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    users = json.loads(USERS.read_text()) if USERS.exists() else {}
    if sys.argv[1] == "reset_password":
        name = sys.argv[sys.argv.index("--username") + 1]
        if name not in users:
            print(f"User with username {name} not found")
            return
        users[name][0] = sys.stdin.readline().strip()
        USERS.write_text(json.dumps(users))
        print("Password successfully changed")
        return
    login = [os.environ[f"LABEL_STUDIO_{name}"] for name in ("USERNAME", "PASSWORD", "USER_TOKEN")]
    users.setdefault(login[0], login[1:])
    USERS.write_text(json.dumps(users))
    (FOLDER / "environment.json").write_text(json.dumps(dict(os.environ)))
    (FOLDER / "pid").write_text(str(os.getpid()))
    print("Initializing database..", flush=True)
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
