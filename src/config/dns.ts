/** Settings of the DNS gateway: the group `dns` of SETTINGS in settings.ts, which is where to look first. */
import { bool, bytes, int, list, ms, optionalInt, optionalPort, optionalText, port } from "./field.ts";

const HOUR_MS = 3_600_000;
const HOST = { pattern: /^[A-Za-z0-9._:%-]{1,253}$/, what: "an IP address or host name" } as const;

export const DNS_SETTINGS = {
  enabled: bool({ default: true, doc: "Run the DNS gateway." }),
  host: optionalText({ ...HOST, doc: "Address the DNS gateway binds to; listen.host when absent." }),
  udpPort: port({ default: 17_453, flag: "--dns-port <port>", doc: "UDP port of the DNS gateway; 0 means any free port." }),
  tcpPort: optionalPort({ doc: "TCP port of the DNS gateway; the UDP port when absent." }),
  zones: list({
    pattern: /^(?=.{1,254}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*\.?$/,
    what: "a lower-case DNS name",
    itemKey: (zone) => zone.replace(/\.$/, ""),
    default: ["waymark"],
    doc: "Zones answered for.",
  }),
  minTtlMs: ms({ default: 1000, min: 0, max: 24 * HOUR_MS, doc: "Least TTL given." }),
  maxTtlMs: ms({ default: 60_000, min: 1000, max: 24 * HOUR_MS, doc: "Greatest TTL given." }),
  negativeTtlMs: ms({ default: 5000, min: 0, max: HOUR_MS, doc: "TTL of answers that say a name or type is not there." }),
  rate: optionalInt({
    min: 0,
    max: 10_000_000,
    doc: "Whole answers a second over UDP to one network (/24 of IPv4, /56 of IPv6), whose addresses may be forged; above it a question is told to ask again over TCP. 0 means any number. When absent: 500 when the gateway listens beyond loopback, else 0.",
  }),
  rateNetworks: int({
    default: 10_000,
    min: 2,
    max: 10_000_000,
    doc: "Networks whose answers are counted for dns.rate; those that asked longest ago go first.",
  }),
  maxPlansBytes: bytes({
    default: 33_554_432,
    min: 1_048_576,
    max: 17_179_869_184,
    doc: "Memory for answers that are planned already, at most 10,000 of them; the oldest go first, and none takes more than an eighth.",
  }),
  allowExternalNames: bool({ default: false, doc: "Also try names without a zone suffix; otherwise they are refused." }),
} as const;
