# ruff: noqa
# It asks for sockets that lead elsewhere than to the network: local ones, netlink, packets, ciphers, the hypervisor.
# says: denied

import socket

for family in (socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET, 38, 40, 31):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET):
        try:
            socket.socket(family, kind)
            raise SystemExit(f"ESCAPED: {family} {kind}")
        except PermissionError:
            pass
raise SystemExit("denied")
