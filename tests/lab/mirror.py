"""A mirror of releases for the tests: HTTPS on port 8443 and HTTP on port 8080 of the loopback.

usage: mirror.py DIRECTORY CERTIFICATE KEY

Below /releases it is as it should be. Below other names it misbehaves: /cut breaks off in the middle of each
large file the first two times, /silent stops sending, /slow trickles, /moved redirects, /loop redirects for ever,
/busy answers 503 twice, /norange ignores ranges, /broken answers 500. What was asked for is in DIRECTORY/log.
"""

import http.server
import os
import ssl
import sys
import threading
import time

ROOT, CERTIFICATE, KEY = sys.argv[1:]
LARGE = 10_000
times = {}


class Mirror(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        how, _, path = self.path.lstrip("/").partition("/")
        begin = 0
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and how != "norange":
            begin = int(asked[len("bytes="):].split("-")[0])
        with open(os.path.join(ROOT, "log"), "a") as log:
            log.write(f"{self.path} {begin}\n")
        times[self.path] = times.get(self.path, 0) + 1
        if how == "moved":
            return self.answer(302, {"Location": f"/releases/{path}"})
        if how == "loop":
            return self.answer(302, {"Location": self.path})
        if how == "broken" or how == "busy" and times[self.path] <= 2:
            return self.answer(500 if how == "broken" else 503)
        try:
            with open(os.path.join(ROOT, "releases", path), "rb") as file:
                data = file.read()
        except OSError:
            return self.answer(404)
        if begin > 0 and begin >= len(data):
            return self.answer(416)
        headers = {"Content-Length": len(data) - begin}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self.answer(206 if begin else 200, headers)
        rest = data[begin:]
        large = len(data) > LARGE
        if large and how == "cut" and times[self.path] <= 2:
            rest = rest[: len(rest) // 2]
        for at in range(0, len(rest), 4096):
            self.wfile.write(rest[at : at + 4096])
            if large and how == "slow":
                time.sleep(0.05)
            if large and how == "silent" and at >= len(rest) // 2:
                time.sleep(600)
        self.close_connection = True

    def answer(self, status, headers=None):
        self.send_response(status)
        for name, value in (headers or {"Content-Length": 0}).items():
            self.send_header(name, str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_):
        pass


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(CERTIFICATE, KEY)
plain = http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Mirror)
secure = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Mirror)
secure.socket = tls.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=plain.serve_forever, daemon=True).start()
open(os.path.join(ROOT, "ready"), "w").close()
secure.serve_forever()
