/**
 * The protocol words of targets, URLs and imported ports, and the meaning of each. This is the only such table: DNS records, gRPC names, checks, URLs and
 * the Kubernetes importer read it.
 */

import { GRPC_PORT } from "./addresses.ts";

export type Transport = "tcp" | "udp" | "sctp";

export interface Protocol {
  readonly transport: Transport;
  /** Protocol id that clients negotiate in TLS, from IANA's ALPN registry (RFC 7301). Absent where clients negotiate none. */
  readonly alpn?: "http/1.1" | "h2" | "h3";
  /** Port that clients use for an address without one. Absent where there is no such port. */
  readonly port?: number;
  /** Whether clients speak TLS. Absent where the word leaves that open. */
  readonly isTls?: boolean;
  /** Whether a gRPC channel may connect: `yes` for gRPC itself, `possible` for a transport that can carry it. */
  readonly grpc: "yes" | "possible" | "no";
}

const OTHER: Protocol = { transport: "tcp", grpc: "no" };
const TCP: Protocol = { transport: "tcp", grpc: "possible" };
/** HTTP/2 without TLS. The ALPN id `h2c` is reserved and never negotiated (RFC 9113, section 11.1). */
const CLEAR_HTTP2: Protocol = { transport: "tcp", port: 80, isTls: false, grpc: "possible" };
const HTTP: Protocol = { transport: "tcp", alpn: "http/1.1", port: 80, isTls: false, grpc: "no" };
const HTTPS: Protocol = { transport: "tcp", alpn: "http/1.1", port: 443, isTls: true, grpc: "no" };

const PROTOCOLS = {
  tcp: TCP,
  tls: { transport: "tcp", isTls: true, grpc: "possible" },
  udp: { transport: "udp", grpc: "no" },
  sctp: { transport: "sctp", grpc: "no" },
  http: HTTP,
  ws: HTTP,
  https: HTTPS,
  wss: HTTPS,
  h2: { transport: "tcp", alpn: "h2", port: 443, isTls: true, grpc: "possible" },
  h2c: CLEAR_HTTP2,
  http2: CLEAR_HTTP2,
  // HTTP/3 runs over UDP, but one record of HTTPS lists it next to `h2` of the same place (RFC 9460, section 7.1), so both have one transport here.
  h3: { transport: "tcp", alpn: "h3", port: 443, isTls: true, grpc: "no" },
  grpc: { transport: "tcp", alpn: "h2", port: 443, grpc: "yes" },
  grpcs: { transport: "tcp", alpn: "h2", port: 443, isTls: true, grpc: "yes" },
  "grpc-web": OTHER,
  amqp: OTHER,
  kafka: OTHER,
  mongo: OTHER,
  mysql: OTHER,
  nats: OTHER,
  redis: OTHER,
} as const satisfies Record<string, Protocol>;

/** The canonical form of a protocol word: in lower case, `tcp` for an empty one. */
export function protocolWord(word: string): string {
  return word === "" ? "tcp" : word.toLowerCase();
}

/** Whether the table has this canonical word. */
export function isProtocolWord(word: string): word is keyof typeof PROTOCOLS {
  return Object.hasOwn(PROTOCOLS, word);
}

/** The meaning of a protocol word in any case. An unknown word is an application protocol over TCP that gRPC channels never call. */
export function protocolOf(word: string): Protocol {
  const canonical = protocolWord(word);
  return isProtocolWord(canonical) ? PROTOCOLS[canonical] : OTHER;
}

/** The schemes of URLs of Waymark servers. Each is a word of the table. */
const SERVER_SCHEMES = ["grpc", "grpcs", "http", "https"] as const;

/** The port of a Waymark server whose URL names none. Undefined for other schemes. */
export function serverPort(scheme: string): number | undefined {
  const known = SERVER_SCHEMES.find((one) => one === scheme.toLowerCase());
  return known === "grpc" ? GRPC_PORT : known && PROTOCOLS[known].port;
}
