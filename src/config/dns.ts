/** Settings of the DNS gateway: the group `dns` of SETTINGS in `settings.ts`. */
import { parseBlock } from "../lib/addresses.ts";
import { MAX_NEGATIVE_DNS_PLANS } from "../lib/bounds.ts";
import { DAY_MS, HOUR_MS } from "../lib/duration.ts";
import { bool, bytes, choice, HOST, ID, int, list, ms, port, text } from "./field.ts";
import { rows } from "./field-table.ts";

/**
 * Default of `dns.rate` for a gateway that listens beyond loopback: enough for a busy resolver, and at most 2 Mbit/s towards a network with
 * forged source addresses.
 */
export const DNS_RATE_BEYOND_LOOPBACK = 200;
const MAX_DNS_VIEWS = 64;
const MAX_TRANSFER_KEYS = 16;
/** Most prefixes of all views together. Each needs some kilobytes. */
export const MAX_DNS_PREFIXES = 1000;
/** An address or a block of addresses. The rules in `rules.ts` check that no bits are set after its prefix. */
const BLOCK = { pattern: /^[0-9a-fA-F:.]{2,45}(?:\/\d{1,3})?$/, what: "an address or a block such as 10.0.0.0/8" } as const;

export const DNS_SETTINGS = {
  enabled: bool({ default: true, doc: "Run the DNS gateway." }),
  host: text({
    ...HOST,
    doc: "Address the DNS gateway binds to; listen.host when absent. On all addresses of the machine (0.0.0.0 or ::) it answers over UDP from the one that was asked, on Linux for the first 64.",
  }),
  udpPort: port({ default: 17_453, flag: "--dns-port <port>", doc: "UDP port of the DNS gateway; 0 means any free port." }),
  tcpPort: port({ doc: "TCP port of the DNS gateway; the UDP port when absent." }),
  tlsPort: port({
    doc: "Port for DNS over TLS (RFC 7858), with the certificate of tls.cert_file; usually 853, and 0 means any free port. There is no such listener when absent.",
  }),
  https: bool({
    default: true,
    doc: "Answer DNS over HTTP (DoH, RFC 8484) at /dns-query of the HTTP listener, where dns.enabled is on.",
  }),
  zones: list({
    pattern: /^(?=.{1,254}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.?$/,
    what: "a lower-case DNS name",
    itemKey: (zone) => zone.replace(/\.$/, ""),
    default: ["waymark"],
    doc: "Zones that the gateway answers for.",
  }),
  reverseZones: list({
    ...BLOCK,
    maxItems: 64,
    default: [],
    doc: "Blocks of addresses for which the gateway answers PTR, with the names of services and nodes at each address. Each is a zone below in-addr.arpa or ip6.arpa, so its prefix ends where a label does: /8, /16 or /24 of IPv4, /4 to /124 of IPv6 in steps of 4. Each address in them takes memory of the node and of each process with a copy of the catalog.",
  }),
  minTtlMs: ms({ default: 1000, min: 0, max: DAY_MS, doc: "Least TTL of an answer." }),
  maxTtlMs: ms({ default: 60_000, min: 1000, max: DAY_MS, doc: "Greatest TTL of an answer." }),
  negativeTtlMs: ms({ default: 5000, min: 0, max: HOUR_MS, doc: "TTL of an answer that a name or type does not exist." }),
  staleTtlMs: ms({
    default: 5000,
    min: 0,
    max: DAY_MS,
    doc: "Greatest TTL of an answer with an ORPHANED entry, and of one that a resolver gives from data that may be old, also where dns.min_ttl is more.",
  }),
  srvPriority: choice({
    choices: ["health", "target"],
    default: "health",
    doc: "Priority of SRV records. health: 10,000 for each tier of health, 1,000 for each step away from the view, and the target's own priority, at most 999. target: the target's own priority alone.",
  }),
  srvTiers: choice({
    choices: ["all", "best"],
    default: "all",
    doc: "Health tiers in SRV answers. all: every tier, distinguished by dns.srv_priority. best: only the best tier, as in A and AAAA answers, for clients that ignore the priority, such as HAProxy.",
  }),
  rate: int({
    min: 0,
    max: 10_000_000,
    doc: `Whole answers of one class a second over UDP to one network (/24 of IPv4, /56 of IPv6), because source addresses may be forged. Classes are answers, names without such a type, names that do not exist in a zone, and errors. Above it every second question is told to ask again over TCP and the others are dropped, but those with a valid cookie. 0 means any number. When absent: ${DNS_RATE_BEYOND_LOOPBACK} if the gateway listens beyond loopback, else 0.`,
  }),
  rateNetworks: int({
    default: 100_000,
    min: 2,
    max: 10_000_000,
    doc: "Networks, each with a class of answers, that are counted for dns.rate. What was asked for longest ago goes first.",
  }),
  cookieSecretFile: text({
    doc: "File with the secret of server cookies (RFC 9018), the same at all gateways of one address: a line of 32 hex digits, and perhaps a second line with the secret before it. A reload reads it again. When absent each node makes its own.",
  }),
  dnssecKeyFile: text({
    doc: "File with the keys that sign all zones (DNSSEC, ECDSA P-256), the same at all gateways: a private key in PEM, and perhaps a second one for a change of keys. The first signs everything; the second is told in DNSKEY, and signs DNSKEY, CDS and CDNSKEY too. A reload reads it again. Nothing is signed when absent.",
  }),
  planBytes: bytes({
    default: 67_108_864,
    min: 1_048_576,
    max: 17_179_869_184,
    doc: `Memory for prepared answers. Those that were not used for longest go first, and one takes at most an eighth. Beside them there are at most ${MAX_NEGATIVE_DNS_PLANS.toLocaleString("en")} prepared answers that show nothing.`,
  }),
  processes: int({
    notForResolver: "a resolver has no DNS processes: start several resolvers instead",
    min: 0,
    max: 64,
    default: 0,
    doc: "Processes that answer DNS, and nobody else of the node does, but over HTTP. Each has a copy of the catalog in its own memory, and they share the port. Linux only. 0: the node answers DNS itself, or its read workers do.",
  }),
  summaryAnswers: bool({
    default: false,
    doc: "Answer A, AAAA and SRV of a name without entries here with the ingress of the cluster to which Resolve would lead. It needs summary.keys or fabric.borders, at a resolver summary.resolver_scopes; and node.workers 0 and dns.processes 0: no copy of the catalog has summaries.",
  }),
  allowExternalNames: bool({ default: false, doc: "Also try names without a zone suffix. Otherwise they are refused." }),
  answerLimit: int({
    min: 1,
    max: 4096,
    doc: "Most records of a set of A, AAAA, SRV, SVCB or HTTPS in an answer, drawn anew for each: what clients prefer first, then SRV by the weights of targets, others evenly. All records when absent. A view may have a limit of its own.",
  }),
  views: rows({
    doc: "Views: who asks from where, and what it sees. The longest prefix that holds the source of a question decides; of two of one length the one whose view names the listener. A source without a view sees what callers without a credential see, or nothing where tenants.anonymous is none.",
    maxItems: MAX_DNS_VIEWS,
    fields: {
      listener: choice({
        choices: ["udp", "tcp", "dot", "doh"],
        doc: "How the question comes in; any way but doh when absent. dot is DNS over TLS, doh DNS over HTTP: a view counts there only if it says so, because a proxy in front asks for everybody from its own address. A source address over UDP can be forged, others cannot.",
      }),
      prefixes: list({
        ...BLOCK,
        maxItems: MAX_DNS_PREFIXES,
        default: [],
        doc: "Addresses, and blocks of addresses, that have this view. An IPv4 address that is mapped into IPv6 is the IPv4 address.",
      }),
      tenant: text({ ...ID, doc: "Tenant whose view it is; none when absent." }),
      cluster: text({ ...ID, doc: "Cluster whose view it is; this node's when absent." }),
      region: text({
        ...ID,
        doc: "Region of those who ask: SRV records prefer what is near. When absent, node.region if zone is set, else no place is nearer than another.",
      }),
      zone: text({ ...ID, doc: "Zone of those who ask, inside the region." }),
      answerLimit: int({ min: 1, max: 4096, doc: "Most records of a set in an answer; dns.answer_limit when absent." }),
    },
    required: ["prefixes"],
    check: ({ prefixes }) => {
      if (prefixes.length === 0) return "prefixes needs at least one address";
      const wrong = prefixes.find((prefix) => parseBlock(prefix) === undefined);
      return wrong === undefined ? undefined : `prefixes: ${wrong} must be an address, or a block without bits set after its prefix`;
    },
  }),
  transferKeys: rows({
    doc: "Keys of secondary servers, which take a zone by AXFR (RFC 5936) over TCP or TLS with a signature (TSIG, RFC 8945). The key decides what its zone shows. Without keys nobody gets a zone.",
    maxItems: MAX_TRANSFER_KEYS,
    fields: {
      name: text({
        pattern: /^(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?$/,
        what: "a DNS name",
        doc: "Name of the key, the same at the secondary.",
      }),
      algorithm: choice({
        choices: ["hmac-sha256", "hmac-sha384", "hmac-sha512"],
        default: "hmac-sha256",
        doc: "Algorithm of the signatures.",
      }),
      secretFile: text({ doc: "File with the secret: one line of base64, for at least 16 bytes. A reload reads it again." }),
      tenant: text({ ...ID, doc: "Tenant whose view it is; none when absent." }),
      cluster: text({ ...ID, doc: "Cluster whose view it is; this node's when absent." }),
      region: text({ ...ID, doc: "Region for the priorities of SRV records, as in dns.views." }),
      zone: text({ ...ID, doc: "Zone inside the region, as in dns.views." }),
    },
    required: ["name", "secretFile"],
  }),
  trustedForwarders: list({
    ...BLOCK,
    maxItems: 256,
    default: [],
    doc: "Addresses, and blocks of addresses, of forwarders that ask for many others. dns.rate does not bound them, and only from them counts the client subnet (ECS) that a question carries. Name only forwarders whose address nobody else on the network can forge.",
  }),
} as const;
