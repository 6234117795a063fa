/** The rows of the VERBS table for DNS. */
import { AS_OPERATOR, type FlagSpec, type VerbSpec } from "./verb.ts";

const names = () => import("../verbs/dns-names.ts");
const dns = () => import("../verbs/dns.ts");

const KINDS = ["service", "function", "queue", "node"] as const;
const NAMESPACE: FlagSpec = { flags: "--namespace <namespace>", doc: "Namespace of the service." };
const PROTOCOL: FlagSpec = { flags: "--protocol <protocol>", doc: "Protocol of the port, such as grpc, http, tcp or udp (default tcp)." };
const PORT: FlagSpec = { flags: "--port <port>", doc: "Port of the service." };

export const DNS_VERBS: readonly VerbSpec[] = [
  {
    path: "dns register",
    summary: "Register a service by name, protocol and port, or add an alias to an entry.",
    args: [{ name: "<name>", doc: "Name of the service, or the alias if --alias-of is set." }],
    flags: [
      { ...NAMESPACE, doc: "Namespace of the service. Required unless --alias-of is set." },
      PROTOCOL,
      { ...PORT, doc: `${PORT.doc} Required unless --alias-of is set.` },
      {
        flags: "--target <host>",
        doc: "Host of the service: an IP address or a DNS name. Required unless --alias-of is set.",
        isRepeatable: true,
      },
      { flags: "--scope <scope>", doc: "How far the entry is replicated (default zone).", choices: ["local", "zone", "region", "global"] },
      { flags: "--tag <tag>", doc: "Tag that queries can filter by, such as canary or app:web.", isRepeatable: true },
      { flags: "--capability <capability>", doc: "Capability that queries can filter by, such as gpu.", isRepeatable: true },
      { flags: "--metadata <key=value>", doc: "Free-form key-value pair that is returned with the entry.", isRepeatable: true },
      { flags: "--priority <number>", doc: "Priority of the targets; clients try lower values first (default 0)." },
      { flags: "--weight <number>", doc: "Weight of each target (default 0, which means not set and is treated as 1)." },
      {
        flags: "--ttl <duration>",
        doc: "TTL of DNS answers: how long DNS caches may keep the records (default: set by the server, as for waymark register).",
      },
      { flags: "--alias <name>", doc: "Additional DNS name of the entry.", isRepeatable: true },
      {
        flags: "--lease-ttl <duration>",
        doc: "TTL of the lease: how long the entry stays registered unless the lease is renewed, such as 30s (default: a static lease, which never expires).",
      },
      { flags: "--lease <id>", doc: "Attach the service to this existing lease." },
      { flags: "--alias-of <entry>", doc: "Entry to add the alias to, in the form namespace/name/instance." },
    ],
    examples: [
      [
        "dns register web --namespace svc.prod --protocol http --port 8080 --target 10.0.0.1 --target 10.0.0.2",
        "register a service on two hosts",
      ],
      ["dns register www.svc.prod --alias-of svc.prod/web/web-1", "add another name for an entry"],
    ],
    load: async () => (await names()).register,
  },
  {
    path: "dns unregister",
    summary: "Remove a service that dns register created, or an alias.",
    args: [{ name: "<name>", doc: "Name of the service, or an alias if --namespace is not set." }],
    flags: [NAMESPACE, PROTOCOL, PORT],
    examples: [
      ["dns unregister web --namespace svc.prod --protocol http --port 8080", "remove the service"],
      ["dns unregister www.svc.prod", "remove the alias"],
    ],
    load: async () => (await names()).unregister,
  },
  {
    path: "dns list",
    summary: "List the names in the catalog, including names that DNS cannot represent.",
    flags: [
      { flags: "--prefix <namespace>", doc: "Only names in this namespace and in all namespaces below it." },
      { flags: "--limit <count>", doc: "Maximum number of names (default all)." },
      { flags: "--page-token <token>", doc: "Continue after the page that returned this token.", mayBeEmpty: true },
    ],
    examples: [["dns list --prefix svc", "list all names in and below svc"]],
    load: async () => (await names()).list,
  },
  {
    path: "dns describe",
    summary: "Show a name and its entries.",
    args: [{ name: "<name>", doc: "DNS name or alias, or the name of the entries if --namespace is set." }],
    flags: [
      { flags: "--namespace <namespace>", doc: "Namespace of the entries." },
      { flags: "--kind <kind>", doc: "Kind of the entries if --namespace is set (default service).", choices: KINDS },
    ],
    examples: [
      ["dns describe web.svc.prod.waymark", "look up a service by its DNS name"],
      ["dns describe Web:7 --namespace svc.prod", "look up a service by its name in the catalog"],
    ],
    load: async () => (await names()).describe,
  },
  {
    path: "dns resolve",
    summary: "Query the DNS gateway of the node, or any other DNS server.",
    args: [
      {
        name: "<name>",
        doc: "Name to query, such as cartservice.k8s.default.waymark. Put @host:port before the name to query that DNS server.",
      },
      {
        name: "[words...]",
        doc: "Record type (default A), and +tcp to query over TCP. If the first argument is @host:port, the name comes before the record type.",
      },
    ],
    flags: [{ flags: "--dns-server <host:port>", doc: "DNS server to query (default: the DNS listener of the node)." }],
    examples: [
      ["dns resolve cartservice.k8s.default.waymark", "print the addresses of a service"],
      ["dns resolve _svc._tcp.cartservice.k8s.default.waymark SRV", "print the ports of the service"],
      ["dns resolve @127.0.0.1:17453 waymark SOA +tcp", "query any DNS server, and print all sections of its answer"],
    ],
    load: async () => (await dns()).resolveName,
  },
  {
    path: "dns explain",
    summary: "Show the answer that the DNS gateway would return to you, and explain it.",
    args: [
      { name: "<name>", doc: "Name to explain, such as cartservice.k8s.default.waymark." },
      { name: "[type]", doc: "Record type (default A)." },
    ],
    flags: [
      { flags: "--cluster <id>", doc: "Show the answer for a viewer in this cluster. Requires the role mesh.operate." },
      {
        flags: "--source <address>",
        doc: "Show the answer for a client at this address, with its view from dns.views. Requires the role mesh.operate.",
      },
      {
        flags: "--listener <listener>",
        doc: "Listener that receives the query from --source (default udp).",
        choices: ["udp", "tcp", "dot", "doh"],
      },
      AS_OPERATOR,
    ],
    examples: [
      [
        "dns explain cartservice.k8s.default.waymark",
        "show the view, policy, health and TTL, and how long caches may keep entries in maintenance",
      ],
      ["dns explain db.svc.prod.waymark SRV --tenant green", "explain the answer for the tenant green, as an operator"],
      ["dns explain db.svc.prod.waymark --source 10.20.7.1", "explain the answer for the client 10.20.7.1, as an operator"],
    ],
    load: async () => (await names()).explain,
  },
  {
    path: "dns node-encode",
    isAlone: true,
    summary: "Print the DNS label of a node id, or of any name.",
    args: [{ name: "<name>", doc: "Node id or name." }],
    examples: [["dns node-encode Node:7", "print b32-jzxwizj2g4"]],
    load: async () => (await dns()).encode,
  },
  {
    path: "dns node-decode",
    isAlone: true,
    summary: "Print the node id or name that a DNS label encodes.",
    args: [{ name: "<label>", doc: "DNS label, as printed by dns node-encode." }],
    examples: [["dns node-decode b32-jzxwizj2g4", "print Node:7"]],
    load: async () => (await dns()).decode,
  },
];
