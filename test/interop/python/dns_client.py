"""Asks a DNS server with dnspython: python dns_client.py PORT NAME."""

import sys

import dns.resolver

port, name = int(sys.argv[1]), sys.argv[2]
resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers = ["127.0.0.1"]
resolver.port = port
resolver.use_edns(0, 0, 1232)

for tcp in (False, True):
    addresses = sorted(record.address for record in resolver.resolve(name, "A", tcp=tcp))
    print("addresses", *addresses)
    services = sorted(f"{record.priority} {record.port} {record.target}" for record in resolver.resolve(f"_svc._tcp.{name}", "SRV", tcp=tcp))
    print("services", *services)
    binding = resolver.resolve(name, "HTTPS", tcp=tcp)[0]
    print("https", binding.priority, binding.target, binding.params[dns.rdtypes.svcbbase.ParamKey.PORT].port)
    try:
        resolver.resolve(name, "MX", tcp=tcp)
    except dns.resolver.NoAnswer:
        print("no answer")
    try:
        resolver.resolve(f"nope.{name}", "A", tcp=tcp)
    except dns.resolver.NXDOMAIN:
        print("absent")
