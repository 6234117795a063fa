/** Hosts and ports as people, URLs and sockets write them. */

/** An IPv6 literal goes into brackets. */
export function hostPort(host: string, port: number): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

const MAPPED = "::ffff:";

/** `::ffff:192.0.2.1`, as a socket that speaks both families shows an IPv4 peer, is 192.0.2.1. */
export function withoutMapping(host: string): string {
  return host.startsWith(MAPPED) && host.includes(".") ? host.slice(MAPPED.length) : host;
}
