"""A forwarder for tests: LOCAL_PORT leads to PORT, and MODE is what is wrong with it.

``short`` ends each connection after 4 KiB from the destination, ``mute`` goes on after
one answer without a further one, and ``orphan`` leaves a process behind that is in a
session of its own.
"""

import contextlib
import socket
import subprocess
import sys
import threading

SHORT = 4096


def pump(source, sink, most=1 << 60):
    try:
        while most > 0 and (data := source.recv(min(most, 65536))):
            sink.sendall(data)
            most -= len(data)
    except OSError:
        pass
    finally:
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def main():
    local, port, *mode = sys.argv[1:]
    if mode == ["orphan"]:
        child = "import signal; signal.pause()"
        left = subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
        sys.stdout.write(f"left {left.pid}\n")
        sys.stdout.flush()
    server = socket.create_server(("127.0.0.1", int(local)))
    while True:
        client, _ = server.accept()
        far = socket.create_connection(("127.0.0.1", int(port)))
        most = SHORT if mode == ["short"] else 1 << 60
        threading.Thread(target=pump, args=[client, far], daemon=True).start()
        if mode == ["mute"]:
            client.sendall(far.recv(65536))
            continue
        threading.Thread(target=pump, args=[far, client, most], daemon=True).start()


if __name__ == "__main__":
    main()
