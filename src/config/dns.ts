/** Settings of the DNS gateway: the group `dns` of SETTINGS in `settings.ts`. */
import { parseBlock } from "../lib/addresses.ts";
import { MAX_NEGATIVE_DNS_PLANS } from "../lib/bounds.ts";
import { DAY_MS, HOUR_MS } from "../lib/duration.ts";
import { bool, bytes, choice, HOST, ID, int, list, ms, port, RELOADED_FILE, text } from "./field.ts";
import { rows } from "./field-table.ts";

/** Default `dns.rate` for clients beyond loopback: enough for a busy resolver, and at most 2 Mbit/s towards a network whose addresses are forged. */
export const DNS_RATE_BEYOND_LOOPBACK = 200;
const MAX_DNS_VIEWS = 64;
const MAX_TRANSFER_KEYS = 16;
/** Maximum number of prefixes in all views together. Each prefix uses a few kilobytes. */
export const MAX_DNS_PREFIXES = 1000;
/** An address or a CIDR block. `rules.ts` checks that no bits are set after the prefix length. */
const BLOCK = { pattern: /^[0-9a-fA-F:.]{2,45}(?:\/\d{1,3})?$/, what: "an address or a block such as 10.0.0.0/8" } as const;

export const DNS_SETTINGS = {
  enabled: bool({ default: true, doc: "Run the DNS gateway." }),
  host: text({
    ...HOST,
    doc: "Address that the DNS gateway binds to. Defaults to listen.host. If it is 0.0.0.0 or ::, each UDP answer is sent from the address that the query was sent to; on Linux, this works for the first 64 addresses of the machine.",
  }),
  udpPort: port({ default: 17_453, flag: "--dns-port <port>", doc: "UDP port of the DNS gateway; 0 means any free port." }),
  tcpPort: port({ doc: "TCP port of the DNS gateway. Defaults to the UDP port." }),
  tlsPort: port({
    doc: "Port for DNS over TLS (RFC 7858), usually 853, with the certificate of tls.cert_file; 0 means any free port. When absent, DNS over TLS is off.",
  }),
  https: bool({
    default: true,
    doc: "Serve DNS over HTTP (DoH, RFC 8484) at /dns-query on the HTTP listener, if dns.enabled is on.",
  }),
  zones: list({
    pattern: /^(?=.{1,254}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.?$/,
    what: "a lower-case DNS name",
    itemKey: (zone) => zone.replace(/\.$/, ""),
    default: ["waymark"],
    doc: "Zones that the gateway is authoritative for.",
  }),
  reverseZones: list({
    ...BLOCK,
    maxItems: 64,
    default: [],
    doc: "Address blocks for which the gateway answers PTR queries with the names of services and nodes at each address. Each block is a zone under in-addr.arpa or ip6.arpa, so its prefix must end at a label: /8, /16 or /24 for IPv4, and /4 to /124 in steps of 4 for IPv6. Each address in these blocks uses memory in the node and in each process with a copy of the catalog.",
  }),
  minTtlMs: ms({ default: 1000, min: 0, max: DAY_MS, doc: "Minimum TTL of an answer." }),
  maxTtlMs: ms({ default: 60_000, min: 1000, max: DAY_MS, doc: "Maximum TTL of an answer." }),
  negativeTtlMs: ms({ default: 5000, min: 0, max: HOUR_MS, doc: "TTL of a negative answer (the name or type does not exist)." }),
  staleTtlMs: ms({
    default: 5000,
    min: 0,
    max: DAY_MS,
    doc: "Maximum TTL of an answer that contains an ORPHANED entry or comes from a resolver's possibly stale data. This maximum applies even if dns.min_ttl is larger.",
  }),
  srvPriority: choice({
    choices: ["health", "target"],
    default: "health",
    doc: "Priority of SRV records. health: 10,000 per health tier, plus 1,000 per step of distance from the view, plus the target's own priority (at most 999). target: the target's own priority only.",
  }),
  srvTiers: choice({
    choices: ["all", "best"],
    default: "all",
    doc: "Health tiers in SRV answers. all: every tier, distinguished by dns.srv_priority. best: only the best tier, as in A and AAAA answers, for clients that ignore the priority, such as HAProxy.",
  }),
  rate: int({
    min: 0,
    max: 10_000_000,
    doc: `Maximum number of complete UDP answers of one class per second to one network (/24 for IPv4, /56 for IPv6); the limit exists because source addresses can be forged. The classes are answers, names without the requested type, names that do not exist, and errors. Above the limit, every second query is answered with TC=1 (retry over TCP) and the others are dropped; queries with a valid cookie are exempt. 0 means no limit. Defaults to ${DNS_RATE_BEYOND_LOOPBACK} if the gateway listens on a non-loopback address, or to 0 if it does not.`,
  }),
  rateNetworks: int({
    default: 100_000,
    min: 2,
    max: 10_000_000,
    doc: "Maximum number of counters for dns.rate, one per network and class. Above this limit, the least recently used counter is dropped.",
  }),
  cookieSecretFile: text({
    ...RELOADED_FILE,
    doc: "File with the secret for server cookies (RFC 9018): one line of 32 hex digits, and an optional second line with the previous secret. All gateways behind one address need the same file. The file is reread on SIGHUP. When absent, each node generates its own secret.",
  }),
  dnssecKeyFile: text({
    ...RELOADED_FILE,
    doc: "File with the keys that sign all zones (DNSSEC, ECDSA P-256): a PEM private key, and an optional second one for a key rollover. The first key signs everything; the second is published in DNSKEY and also signs DNSKEY, CDS and CDNSKEY. All gateways need the same file. The file is reread on SIGHUP. When absent, zones are not signed.",
  }),
  planBytes: bytes({
    default: 67_108_864,
    min: 1_048_576,
    max: 17_179_869_184,
    doc: `Memory limit for prepared answers. Above this limit, the least recently used answers are dropped. A single prepared answer can use at most an eighth of the limit. In addition, at most ${MAX_NEGATIVE_DNS_PLANS.toLocaleString("en")} prepared answers without records are kept.`,
  }),
  processes: int({
    notForResolver: "a resolver has no DNS processes: start several resolvers instead",
    perNode: true,
    min: 0,
    max: 64,
    default: 0,
    doc: "Number of DNS processes. These processes share the DNS ports, and the rest of the node then answers DNS only over HTTP. Each process has its own copy of the catalog. Linux only. 0 means that the node or its read workers answer DNS.",
  }),
  summaryAnswers: bool({
    default: false,
    doc: "If a name has no local entries, answer its A, AAAA and SRV queries with the ingress of the cluster that Resolve would redirect to. This requires summary.keys or fabric.borders, or summary.resolver_scopes on a resolver. node.workers and dns.processes must be 0, because summaries exist only in the main thread.",
  }),
  allowExternalNames: bool({
    default: false,
    doc: "Also answer names outside dns.zones from the catalog. When off, such queries are refused.",
  }),
  answerLimit: int({
    min: 1,
    max: 4096,
    doc: "Maximum number of A, AAAA, SRV, SVCB or HTTPS records in the record set of an answer. The records are selected separately for each answer: the most preferred records first; among equally preferred ones, SRV records by the weights of their targets, and other types with equal probability. When absent, all records are returned. A view can set its own limit.",
  }),
  views: rows({
    doc: "Views, which use the source address of a query to select the data that the client sees. The view with the longest matching prefix is used; among equal prefixes, the view that names the listener. A source without a view sees the same data as callers without a credential, or nothing if tenants.anonymous is none.",
    maxItems: MAX_DNS_VIEWS,
    fields: {
      listener: choice({
        choices: ["udp", "tcp", "dot", "doh"],
        doc: "Listener that receives the query. Defaults to every listener except doh. dot is DNS over TLS, doh is DNS over HTTP. A view applies to doh only if it names doh, because a proxy forwards the queries of all its clients from its own address. Source addresses can be forged over UDP, but not over the other transports.",
      }),
      prefixes: list({
        ...BLOCK,
        maxItems: MAX_DNS_PREFIXES,
        default: [],
        doc: "Addresses and CIDR blocks that use this view. An IPv4-mapped IPv6 address is treated as the IPv4 address.",
      }),
      tenant: text({ ...ID, doc: "Tenant of the view. Defaults to no tenant." }),
      cluster: text({ ...ID, doc: "Cluster of the view. Defaults to this node's cluster." }),
      region: text({
        ...ID,
        doc: "Region of these clients; SRV records prefer near targets. Defaults to node.region if zone is set. If neither is set, all targets are considered equally near.",
      }),
      zone: text({ ...ID, doc: "Zone of these clients within the region." }),
      answerLimit: int({
        min: 1,
        max: 4096,
        doc: "Maximum number of records in the record set of an answer. Defaults to dns.answer_limit.",
      }),
    },
    required: ["prefixes"],
    check: ({ prefixes }) => {
      if (prefixes.length === 0) return "prefixes needs at least one address";
      const wrong = prefixes.find((prefix) => parseBlock(prefix) === undefined);
      return wrong === undefined ? undefined : `prefixes: ${wrong} is neither an address nor a CIDR block whose host bits are all zero`;
    },
  }),
  transferKeys: rows({
    doc: "TSIG keys (RFC 8945) of secondary servers, which transfer a zone by AXFR (RFC 5936) over TCP or TLS. The key selects the view of the zone. Without keys, all transfers are refused.",
    maxItems: MAX_TRANSFER_KEYS,
    fields: {
      name: text({
        pattern: /^(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?$/,
        what: "a DNS name",
        doc: "Name of the key, as configured on the secondary.",
      }),
      algorithm: choice({
        choices: ["hmac-sha256", "hmac-sha384", "hmac-sha512"],
        default: "hmac-sha256",
        doc: "Signature algorithm.",
      }),
      secretFile: text({
        ...RELOADED_FILE,
        doc: "File with the secret: one line of base64 that decodes to at least 16 bytes. The file is reread on SIGHUP.",
      }),
      tenant: text({ ...ID, doc: "Tenant of the view. Defaults to no tenant." }),
      cluster: text({ ...ID, doc: "Cluster of the view. Defaults to this node's cluster." }),
      region: text({ ...ID, doc: "Region for SRV priorities, as in dns.views." }),
      zone: text({ ...ID, doc: "Zone within the region, as in dns.views." }),
    },
    required: ["name", "secretFile"],
  }),
  trustedForwarders: list({
    ...BLOCK,
    maxItems: 256,
    default: [],
    doc: "Addresses and CIDR blocks of forwarders that query for many clients. These forwarders are exempt from dns.rate, and the client subnet (ECS) of a query is used only if the query comes from a listed forwarder. List only forwarders whose addresses cannot be forged on the network.",
  }),
} as const;
