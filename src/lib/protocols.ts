/**
 * The protocols of targets, URLs and imported ports, and their properties. This is the only such table in the program. It is used for DNS records,
 * gRPC names, checks, URLs, and the Kubernetes importer.
 */

import { GRPC_PORT } from "./addresses.ts";

export type TransportProtocol = "tcp" | "udp" | "sctp";

export interface Protocol {
  readonly transport: TransportProtocol;
  /** The protocol id that clients negotiate in TLS, from IANA's ALPN registry (RFC 7301). Absent if clients do not negotiate the protocol. */
  readonly alpn?: "http/1.1" | "h2" | "h3";
  /** Default port of the protocol. Absent if the protocol has none. */
  readonly port?: number;
  /** Whether clients use TLS. Absent if the protocol does not define it. */
  readonly isTls?: boolean;
  /** Whether a gRPC channel may connect: `yes` for gRPC itself, and `possible` for a transport that can carry gRPC. */
  readonly grpc: "yes" | "possible" | "no";
}

const OTHER: Protocol = { transport: "tcp", grpc: "no" };
const TCP: Protocol = { transport: "tcp", grpc: "possible" };
/** HTTP/2 without TLS. The ALPN id `h2c` is reserved and is never negotiated (RFC 9113, section 11.1). */
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
  // HTTP/3 runs over UDP, but one HTTPS record lists it together with `h2` for the same endpoint (RFC 9460, section 7.1), so both have the same
  // transport in this table.
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

/** The canonical form of a protocol name, which is in lower case, or `tcp` for an empty name. */
export function protocolWord(word: string): string {
  return word === "" ? "tcp" : word.toLowerCase();
}

/** Whether the table contains this canonical name. */
export function isProtocolWord(word: string): word is keyof typeof PROTOCOLS {
  return Object.hasOwn(PROTOCOLS, word);
}

/**
 * The properties of a protocol, whose name may be in upper or lower case. An unknown name is treated as an application protocol over TCP that gRPC
 * channels never call.
 */
export function protocolOf(word: string): Protocol {
  const canonical = protocolWord(word);
  return isProtocolWord(canonical) ? PROTOCOLS[canonical] : OTHER;
}

/** The URL schemes of Waymark servers. Each scheme is in the table. */
const SERVER_SCHEMES = ["grpc", "grpcs", "http", "https"] as const;

/** The port of a Waymark server if its URL has no port. Undefined for other schemes. */
export function serverPort(scheme: string): number | undefined {
  const known = SERVER_SCHEMES.find((one) => one === scheme.toLowerCase());
  return known === "grpc" ? GRPC_PORT : known && PROTOCOLS[known].port;
}
