/** The rows of the VERBS table about DNS. */
import type { FlagSpec, VerbSpec } from "./verb.ts";

const names = () => import("../verbs/dns-names.ts");
const dns = () => import("../verbs/dns.ts");

const KINDS = ["service", "function", "queue", "node"] as const;
const NAMESPACE: FlagSpec = { flags: "--namespace <namespace>", doc: "Namespace of the service." };
const PROTOCOL: FlagSpec = { flags: "--protocol <protocol>", doc: "Protocol of the port, such as grpc, http, tcp or udp (default tcp)." };
const PORT: FlagSpec = { flags: "--port <port>", doc: "Port of the service." };

export const DNS_VERBS: readonly VerbSpec[] = [
  {
    path: "dns register",
    summary: "Register a service by name, protocol and port, or one more alias of an entry.",
    args: [{ name: "<name>", doc: "Name of the service; with --alias-of, the alias." }],
    flags: [
      { ...NAMESPACE, doc: "Namespace of the service. Needed without --alias-of." },
      PROTOCOL,
      PORT,
      { flags: "--target <host>", doc: "Host of the service: an IP address or a DNS name.", isRepeatable: true },
      { flags: "--scope <scope>", doc: "How far the entry may travel (default zone).", choices: ["local", "zone", "region", "global"] },
      { flags: "--tag <tag>", doc: "Tag.", isRepeatable: true },
      { flags: "--capability <capability>", doc: "Capability.", isRepeatable: true },
      { flags: "--metadata <key=value>", doc: "Metadata.", isRepeatable: true },
      { flags: "--priority <number>", doc: "Priority of the targets: lower values are tried first (default 0)." },
      { flags: "--weight <number>", doc: "Weight of each target (default 0: no weight is set, which counts as 1)." },
      { flags: "--ttl <duration>", doc: "How long DNS caches may keep the records (default as for register)." },
      { flags: "--alias <name>", doc: "Other DNS name.", isRepeatable: true },
      { flags: "--lease-ttl <duration>", doc: "Ttl of a lease that expires unless renewed (default a static lease, which never expires)." },
      { flags: "--lease <id>", doc: "Add the service to this lease." },
      { flags: "--alias-of <entry>", doc: "Give this entry, namespace/name/instance, one more name." },
    ],
    examples: [
      ["dns register web --namespace svc.prod --protocol http --port 8080 --target 10.0.0.1 --target 10.0.0.2", "a service on two hosts"],
      ["dns register www.svc.prod --alias-of svc.prod/web/web-1", "another name of an entry"],
    ],
    load: async () => (await names()).register,
  },
  {
    path: "dns unregister",
    summary: "Remove a service that dns register made, or an alias.",
    args: [{ name: "<name>", doc: "Name of the service; without --namespace, an alias." }],
    flags: [NAMESPACE, PROTOCOL, PORT],
    examples: [
      ["dns unregister web --namespace svc.prod --protocol http --port 8080", "remove the service"],
      ["dns unregister www.svc.prod", "remove the alias"],
    ],
    load: async () => (await names()).unregister,
  },
  {
    path: "dns list",
    summary: "List the names of the catalog, with those that DNS cannot carry.",
    flags: [
      { flags: "--prefix <namespace>", doc: "This namespace and all below it." },
      { flags: "--limit <count>", doc: "At most this many (default all)." },
      { flags: "--page-token <token>", doc: "The page after the one that gave this token.", mayBeEmpty: true },
    ],
    examples: [["dns list --prefix svc", "every name at and below svc"]],
    load: async () => (await names()).list,
  },
  {
    path: "dns describe",
    summary: "Show one name with its entries.",
    args: [{ name: "<name>", doc: "DNS name or alias; with --namespace, the name of entries." }],
    flags: [
      { flags: "--namespace <namespace>", doc: "Namespace of the entries." },
      { flags: "--kind <kind>", doc: "Kind of the entries, with --namespace (default service).", choices: KINDS },
    ],
    examples: [
      ["dns describe web.svc.prod.waymark", "by its name in DNS"],
      ["dns describe Web:7 --namespace svc.prod", "by its name in the catalog"],
    ],
    load: async () => (await names()).describe,
  },
  {
    path: "dns resolve",
    summary: "Ask the node's DNS gateway.",
    args: [
      { name: "<name>", doc: "Name, such as cartservice.k8s.default.waymark. Before it, @host:port asks that DNS server." },
      { name: "[words...]", doc: "One record type (default A); +tcp asks over TCP. After @host:port the name, and then these." },
    ],
    flags: [{ flags: "--dns-server <host:port>", doc: "DNS listener (default the one that the server announces)." }],
    examples: [
      ["dns resolve cartservice.k8s.default.waymark", "addresses of a service"],
      ["dns resolve _svc._tcp.cartservice.k8s.default.waymark SRV", "its ports"],
      ["dns resolve @127.0.0.1:17453 waymark SOA +tcp", "any DNS server, with all sections of its answer"],
    ],
    load: async () => (await dns()).resolveName,
  },
  {
    path: "dns explain",
    summary: "The answer that the DNS gateway would give to you, and what decided it.",
    args: [
      { name: "<name>", doc: "Name, such as cartservice.k8s.default.waymark." },
      { name: "[type]", doc: "Record type (default A)." },
    ],
    flags: [
      { flags: "--cluster <id>", doc: "As a viewer of this cluster. Needs the role mesh.operate." },
      {
        flags: "--source <address>",
        doc: "As an asker at this address, with the view that dns.views gives it. Needs the role mesh.operate.",
      },
      {
        flags: "--listener <listener>",
        doc: "How the question from --source comes in (default udp).",
        choices: ["udp", "tcp", "dot", "doh"],
      },
    ],
    examples: [
      ["dns explain cartservice.k8s.default.waymark", "view, policy, health, TTL, and how long caches may hold what is in maintenance"],
      ["dns explain db.svc.prod.waymark SRV --tenant green", "as the tenant green, for operators"],
      ["dns explain db.svc.prod.waymark --source 10.20.7.1", "what the gateway answers to this address, for operators"],
    ],
    load: async () => (await names()).explain,
  },
  {
    path: "dns node-encode",
    isAlone: true,
    summary: "The DNS label of a node id, or of any name.",
    args: [{ name: "<name>", doc: "Node id or name." }],
    examples: [["dns node-encode Node:7", "prints the label of it"]],
    load: async () => (await dns()).encode,
  },
  {
    path: "dns node-decode",
    isAlone: true,
    summary: "The node id, or name, of a DNS label.",
    args: [{ name: "<label>", doc: "DNS label." }],
    examples: [["dns node-decode b32-jzxwizj2g4", "prints Node:7"]],
    load: async () => (await dns()).decode,
  },
];
