"""A small service, as a program of a test: standard library alone, one that needs native modules among it."""

import http.server
import signal
import sys
import zlib


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"lit %d" % zlib.crc32(b"beacon"))


def main():
    if sys.argv[1:] == ["--version"]:
        print("1.0")
        return
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()


if __name__ == "__main__":
    main()
